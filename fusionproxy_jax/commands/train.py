"""`fusionproxy train`: distils a student from a teacher cache."""

import logging
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fusionproxy_jax.commands.processes import Processes
from fusionproxy_jax.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusionproxy_jax.training.reporting import Progress
    from fusionproxy_jax.training.run import TrainingResult


def _duration(seconds: float) -> str:
    """Returns hours and minutes, or minutes and seconds."""
    if seconds != seconds:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}" if hours else f"{minutes}m{seconds:02d}"


def progress_line(progress: "Progress") -> str:
    """Returns one line: how far, the loss, the speed and the time left."""
    return (
        f"step {progress.step}/{progress.num_steps}"
        f"  loss {progress.metrics['loss']:.4f}"
        f"  {progress.steps_per_second:.2f} steps/s"
        f"  {_duration(progress.seconds_left)} left"
    )


def run_and_report(
    train: "Callable[[Callable[[Progress], None]], TrainingResult]",
    *,
    made: str,
    speaks: bool = True,
) -> int:
    """Trains with a progress line on stderr; returns the command's exit code.

    Args:
        train: Gets what to call at every report.
        made: What to say is there in the end.
        speaks: Whether this process says anything.
    """
    # Orbax logs the traceback of every writing thread; the error says it once.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    live = sys.stderr.isatty()

    def show(progress: "Progress") -> None:
        start, end = ("\r\x1b[K", "") if live else ("", "\n")
        print(start + progress_line(progress), end=end, file=sys.stderr, flush=True)

    result = train(show)
    if live and speaks:
        print(file=sys.stderr)
    if result.signal_number is not None:
        name = signal.Signals(result.signal_number).name
        if speaks:
            print(
                f"stopped by {name} at step {result.step}, checkpoint saved; the same "
                "command continues",
                file=sys.stderr,
            )
        # Preempted, not failed: a scheduler that starts it again continues it.
        preempted = result.signal_number == signal.SIGTERM
        return 0 if preempted else 128 + result.signal_number
    if speaks:
        print(f"{result.step} steps done; {made}", file=sys.stderr)
    return 0


@dataclass(frozen=True, kw_only=True)
class Train:
    """Distil a student from a teacher cache.

    Run the same command on the same --workdir to continue an interrupted run; Ctrl-C
    and SIGTERM save a checkpoint first. Every setting can be given, by a file with
    --config FILE and one by one (--loss.structure-weight 0.1).
    """

    # Folder made by `fusionproxy teach`.
    cache: Path
    # Folder of the run: checkpoints, metrics, pictures.
    workdir: Path
    # Project at Weights & Biases that gets metrics and pictures, too (extra `wandb`).
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    processes: Annotated[Processes, tyro.conf.arg(name="")] = field(
        default_factory=Processes
    )
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    def run(self) -> int:
        """Trains to the end, or to a signal: 0 after SIGTERM, 130 after Ctrl-C."""
        from fusionproxy_jax.training.loop import train

        self.processes.join()

        def tell(sentence: str) -> None:
            if self.processes.speaks:
                print(sentence, file=sys.stderr)

        return run_and_report(
            lambda show: train(
                self.config,
                self.cache,
                self.workdir,
                progress=show,
                tell=tell,
                wandb=self.wandb,
            ),
            made=f"student in {self.workdir}",
            speaks=self.processes.speaks,
        )
