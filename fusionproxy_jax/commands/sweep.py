"""`fusionproxy sweep`: trains many configurations side by side and compares them."""

import io
import logging
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fusionproxy_jax.commands.processes import Processes
from fusionproxy_jax.commands.sweep_display import SweepDisplay
from fusionproxy_jax.commands.training_progress import exit_code
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.report.best import Criterion
from fusionproxy_jax.sweeps.report.write import write_report

if TYPE_CHECKING:
    from fusionproxy_jax.sweeps.run import SweepResult


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Train the members of a sweep file side by side, score and compare them.

    fusionproxy sweep experiments/sweeps/temperature.py --cache C --workdir W

    FILE.py defines sweep() -> dict of names and Configs. Members that differ only in
    numbers that one compiled step can take (seed, loss weights, routing temperature,
    optimiser, misalignment) train as one program. W/members/NAME is an ordinary run
    folder each, W/report/report.md compares them. The same command on the same W goes
    on; Ctrl-C and SIGTERM save first. Exits with 1 when members died: their loss became
    NaN or infinite.
    """

    file: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[FILE.py]", help="The sweep; not needed with --report."),
    ] = None
    workdir: Path
    """Folder of the sweep, shared by the tasks of an array job."""

    cache: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder made by `fusionproxy teach`; not needed with --report."""

    index: Annotated[int | None, tyro.conf.arg(metavar="I")] = None
    """This task of an array job, from 0; it trains its share of the members."""

    count: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Tasks of the array job."""

    changes: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(
            name="set",
            metavar="KEY=VALUE [...]",
            help="Settings of every member, as num_steps=100 loss.epsilon=0.01.",
        ),
    ] = ()

    members_at_once: Annotated[int | None, tyro.conf.arg(metavar="K")] = None
    """Members that a device computes at once; by default 1 on CPU, else all."""

    best: Annotated[str, tyro.conf.arg(metavar="NAME")] = "qabf"
    """What the best member is best in: one of the nine metrics on held-out pairs, their
    mean rank (rank), or the last training loss (loss)."""

    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    """Project at Weights & Biases that gets every member as a run, too."""

    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only write the report of what lies in --workdir."""

    processes: Annotated[Processes, tyro.conf.arg(name="")] = field(
        default_factory=Processes
    )

    def __post_init__(self) -> None:
        """Rejects numbers that cannot be, and an unknown --best."""
        Criterion.of(self.best)
        if self.members_at_once is not None and self.members_at_once < 1:
            raise FusionProxyError(
                f"--members-at-once is {self.members_at_once}; it must be at least 1"
            )

    def run(self) -> int:
        """Trains and reports: 130 after Ctrl-C, 1 when members died, else 0."""
        if self.report:
            return self._report()
        self.processes.join()
        speaks = self.processes.speaks
        display = SweepDisplay(sys.stderr if speaks else io.StringIO())
        result = self._train(display)
        if speaks:
            self._report()
        stopped = result.signal_number
        if stopped is not None:
            display.tell(
                f"stopped by {signal.Signals(stopped).name}, state saved; the same "
                "command continues"
            )
            return exit_code(stopped)
        if result.died_at:
            deaths = [f"{name} at step {step}" for name, step in result.died_at.items()]
            display.tell(
                f"{len(deaths)} of {len(result.statuses)} members died: "
                f"{', '.join(deaths)}"
            )
            return 1
        return 0

    def _train(self, display: SweepDisplay) -> "SweepResult":
        for value, name in ((self.file, "FILE.py"), (self.cache, "--cache")):
            if value is None:
                raise FusionProxyError(
                    f"a sweep needs {name}; only --report does without"
                )
        # Load JAX, which --report does not need.
        from fusionproxy_jax.sweeps.members import load_sweep
        from fusionproxy_jax.sweeps.run import run_sweep

        # Orbax logs the traceback of every writing thread; the error says it once.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        assignments = [text for texts in self.changes for text in texts]
        return run_sweep(
            load_sweep(self.file, assignments),
            self.cache,
            self.workdir,
            index=self.index,
            count=self.count,
            members_at_once=self.members_at_once,
            progress=display.show,
            tell=display.tell,
            wandb=self.wandb,
        )

    def _report(self) -> int:
        report = write_report(self.workdir, best=self.best)
        print(f"{report.best} Report: {report.path}")
        return 0
