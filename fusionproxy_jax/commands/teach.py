"""`fusionproxy teach`: draw the teacher ensemble of every training pair, once."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from fusionproxy_jax.config import Config, TeacherConfig
from fusionproxy_jax.config.teacher import TeacherName
from fusionproxy_jax.errors import FusionProxyError

if TYPE_CHECKING:
    from fusionproxy_jax.teachers.cache import TeacherCache


@dataclass(frozen=True, kw_only=True)
class Teach:
    """Draws the teacher ensemble of the training part of the pairs into a cache.

    Killed or interrupted, the same command goes on where it was. Several processes may
    share the work and the folder: start each with its --process-index, in any order,
    or all with --distributed. Exits with 1 when the ensemble fails its gate; `train`
    refuses it then.
    """

    cache: Path
    """Folder of the cache; made if it does not exist."""

    teachers: str | None = None
    """Names with commas, as ddfm,mask_difuser; instead of --teacher.teachers."""

    samples: int | None = None
    """Samples per teacher; instead of --teacher.num-samples."""

    split: Literal["train", "validation"] = "train"
    """Which pairs: `validation` draws the held-out ones, to see the gate on them."""

    sheets: int = 0
    """Contact sheets of so many tiles, into sheets/ of the cache."""

    accept_failed_gate: bool = False
    """Let `train` use this ensemble although it fails; a finished cache is kept."""

    tiles_per_draw: int | None = None
    """Tiles drawn at once; by default 1 on CPU, 4 per accelerator, 16 at most."""

    process_index: int | None = None
    """This process, from 0, of --process-count that share the cache."""

    process_count: int | None = None
    """Processes that share the cache."""

    distributed: bool = False
    """Take both numbers from the cluster by jax.distributed (SLURM, MPI, TPU pods)."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    def __post_init__(self) -> None:
        """Rejects numbers that cannot be."""
        if self.sheets < 0:
            raise FusionProxyError(f"--sheets is {self.sheets}; it must be at least 0")
        given = [n for n in (self.process_index, self.process_count) if n is not None]
        if self.distributed and given:
            raise FusionProxyError(
                "--distributed takes the process's number from the cluster; leave out "
                "--process-index and --process-count"
            )

    def run(self) -> int:
        """Builds the cache, prints the gate report; 1 when the ensemble failed."""
        from fusionproxy_jax.input_pipeline.pairs import load_pairs
        from fusionproxy_jax.input_pipeline.split import split_pairs

        teacher = self._teacher_config()
        data = self.config.data
        pairs = load_pairs(data.sources)
        train, validation = split_pairs(pairs.ids_and_groups, data.validation_fraction)
        if self.split == "validation" and not validation:
            raise FusionProxyError(
                "--split validation draws the held-out pairs, but none is held out; "
                "give a --data.validation-fraction above 0 and a data set of at least "
                "two groups"
            )
        if self.distributed:
            _join_cluster()
        print(f"{len(train)} training pairs, {len(validation)} held out")
        drawn = train if self.split == "train" else validation
        cache = self._build(teacher, pairs.subset(drawn), pairs.subset(train))
        return self._tell_unfinished() if cache is None else _tell_finished(cache)

    def _teacher_config(self) -> TeacherConfig:
        """Returns the teachers' configuration with this command's own settings."""
        changes = {}
        if self.teachers is not None:
            changes["teachers"] = _parse_teachers(self.teachers)
        if self.samples is not None:
            changes["num_samples"] = self.samples
        return dataclasses.replace(self.config.teacher, **changes)

    def _build(
        self, teacher: TeacherConfig, source: Sequence[dict], train: Sequence[dict]
    ) -> "TeacherCache | None":
        from tqdm import tqdm

        from fusionproxy_jax.teachers.cache import build_cache

        with tqdm(unit="tile", desc="teach") as bar:

            def show(done: int, total: int) -> None:
                if bar.total != total:
                    bar.reset(total)
                if done == 0 or done > bar.n:
                    bar.update(done - bar.n)

            return build_cache(
                source,
                teacher,
                self.cache,
                progress=show,
                process_index=self.process_index,
                process_count=self.process_count,
                tiles_per_draw=self.tiles_per_draw,
                num_sheets=self.sheets,
                accept_failed_gate=self.accept_failed_gate,
                # Held-out pairs are for measuring; nothing is fitted to them.
                prior_source=None if self.split == "train" else train,
            )

    def _tell_unfinished(self) -> int:
        from fusionproxy_jax.teachers.cache import count_missing

        missing, total = count_missing(self.cache)
        print(
            f"process {self.process_index} of {self.process_count} is done; {missing} "
            f"of {total} parts of {self.cache} are still to come from the others"
        )
        return 0


def _parse_teachers(text: str) -> tuple[TeacherName, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    known = get_args(TeacherName)
    for name in names:
        if name not in known:
            raise FusionProxyError(
                f"--teachers names {name!r}; teachers are {', '.join(known)}"
            )
    return names


def _join_cluster() -> None:
    import jax

    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise FusionProxyError(
            f"--distributed found no cluster ({error}); start every process with its "
            "--process-index and --process-count instead"
        ) from error


def _tell_finished(cache: "TeacherCache") -> int:
    """Prints what the gate says; returns the command's exit code."""
    from fusionproxy_jax.teachers.gate_table import gate_table
    from fusionproxy_jax.teachers.verdict import failed_criteria

    report = cache.report
    print(gate_table(report))
    print(f"{len(cache)} tiles in {cache.directory}, hash {cache.hash}")
    if report["accepted"] is True:
        return 0
    failed = "; ".join(failed_criteria(report))
    if report["accepted"]:
        print(f"accepted {report['accepted']}, although it does not hold: {failed}")
        return 0
    print(
        f"fusionproxy: the ensemble failed its gate, it does not hold: {failed}; "
        "change the teachers, or let `train` use it by the same command with "
        "--accept-failed-gate",
        file=sys.stderr,
    )
    return 1
