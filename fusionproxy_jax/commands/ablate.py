"""`fusionproxy ablate`: the paper's ablation table, trained here."""

import dataclasses
import logging
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fusionproxy_jax.commands.sweep_display import SweepDisplay
from fusionproxy_jax.commands.tile_bars import TileBars
from fusionproxy_jax.commands.training_progress import exit_code
from fusionproxy_jax.config import Config, TeacherConfig
from fusionproxy_jax.errors import FusionProxyError

if TYPE_CHECKING:
    from fusionproxy_jax.ablation.run import AblationResult


def paper_default() -> Config:
    """Returns the configuration of the paper's default, on no data yet."""
    teacher = TeacherConfig(teachers=("ddfm", "mask_difuser"), num_samples=4)
    return Config(teacher=teacher)


@dataclass(frozen=True, kw_only=True)
class Ablate:
    """Train the rows of the paper's Table 4 and write them beside its numbers.

    fusionproxy ablate --config experiments/ablations.py --cache-dir D --workdir W

    --config FILE gives the default that rows vary: two teachers, a panel, variance
    routing. Samples of both are drawn once, below D, and every row's cache is made of
    them; rows of one cache and one compiled program train together. Rows a to l are the
    paper's, m to p what it leaves open. W/table.md compares them. The same command goes
    on where it was stopped, rows that are done are left alone; Ctrl-C and SIGTERM save
    first. Exits with 1 when rows died: their loss became NaN or infinite.
    """

    workdir: Path
    """Folder of the ablation: runs of the rows, table.md and table.json."""

    cache_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the teacher caches, which ablations may share; not needed with
    --report."""

    table: int = 4
    """Which table of the paper."""

    rows: Annotated[str, tyro.conf.arg(metavar="a-l")] = "a-l"
    """Letters and ranges with commas, as a,c,e-h, or all."""

    samples: int | None = None
    """Samples per teacher; instead of teacher.num_samples."""

    samples_of: Annotated[Path | None, tyro.conf.arg(metavar="CACHE")] = None
    """A cache of these pairs taught with --keep-samples, to take all samples from."""

    changes: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(
            name="set",
            metavar="KEY=VALUE [...]",
            help="Settings of the default, as num_steps=100 data.sources=DIR,DIR.",
        ),
    ] = ()

    members_at_once: Annotated[int | None, tyro.conf.arg(metavar="K")] = None
    """Rows that a device computes at once; by default 1 on CPU, else all."""

    speed: bool = True
    """Time the students of the rows in ONNX Runtime on this machine."""

    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only write the table of what lies in --workdir."""

    config: Annotated[Config, tyro.conf.Fixed, tyro.conf.Suppress] = field(
        default_factory=paper_default
    )

    def __post_init__(self) -> None:
        """Rejects a number that cannot be."""
        if self.members_at_once is not None and self.members_at_once < 1:
            raise FusionProxyError(
                f"--members-at-once is {self.members_at_once}; it must be at least 1"
            )

    def run(self) -> int:
        """Trains and writes the table: 130 after Ctrl-C, 1 when rows died, else 0."""
        if self.report:
            self._write()
            return 0
        display = SweepDisplay(sys.stderr)
        result = self._train(display)
        if self._has_begun():
            self._write()
        stopped = result.signal_number
        if stopped is not None:
            display.tell(
                f"stopped by {signal.Signals(stopped).name}, state saved; the same "
                "command continues"
            )
            return exit_code(stopped)
        if result.died_at:
            deaths = [f"{name} at step {step}" for name, step in result.died_at.items()]
            display.tell(f"rows died: {', '.join(deaths)}")
            return 1
        return 0

    def _train(self, display: SweepDisplay) -> "AblationResult":
        from fusionproxy_jax.ablation.selection import parse_rows, table_rows

        letters = parse_rows(self.rows, table_rows(self.table))
        if self.cache_dir is None:
            raise FusionProxyError(
                "an ablation needs --cache-dir; only --report does without"
            )
        base = self._base()
        # Loads JAX, which --report does not need.
        from fusionproxy_jax.ablation.run import run_ablation
        from fusionproxy_jax.teachers.cache import open_cache

        # Orbax logs the traceback of every writing thread; the error says it once.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        samples_of = None
        if self.samples_of is not None:
            samples_of = open_cache(self.samples_of, allow_rejected=True)
        with TileBars() as bars:

            def tell(sentence: str) -> None:
                bars.close()
                display.tell(sentence)

            result = run_ablation(
                base,
                letters,
                self.cache_dir,
                self.workdir,
                table=self.table,
                samples_of=samples_of,
                members_at_once=self.members_at_once,
                teaching=bars.show,
                training=display.show,
                tell=tell,
            )
        if self.speed and result.signal_number is None:
            display.tell("timing the students in ONNX Runtime")
            self._time()
        return result

    def _base(self) -> Config:
        """Returns the default with this command's own settings."""
        from fusionproxy_jax.sweeps.overrides import override

        texts = [text for several in self.changes for text in several]
        base = override(self.config, texts) if texts else self.config
        if self.samples is not None:
            teacher = dataclasses.replace(base.teacher, num_samples=self.samples)
            base = dataclasses.replace(base, teacher=teacher)
        return base

    def _time(self) -> None:
        from fusionproxy_jax.ablation.record import read_record
        from fusionproxy_jax.ablation.speed import measure_speeds
        from fusionproxy_jax.config import StudentConfig, from_json

        record = read_record(self.workdir)
        students = {}
        for letter, row in record.rows.items():
            student = from_json(StudentConfig, row["student"])
            begun = record.run_dir(self.workdir, letter) is not None
            if begun and student not in students.values():
                students[f"row_{letter}"] = student
        measure_speeds(students, self.workdir)

    def _has_begun(self) -> bool:
        """Returns whether there are rows; not when it was stopped before the first."""
        from fusionproxy_jax.ablation.record import read_record

        return read_record(self.workdir) is not None

    def _write(self) -> None:
        from fusionproxy_jax.ablation.table import write_table

        table = write_table(self.workdir)
        print(f"{table.num_done} of {table.num_rows} rows measured: {table.path}")
