"""What a command that trains prints, and the code it ends with."""

import logging
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusionproxy_jax.training.reporting import Progress
    from fusionproxy_jax.training.run import TrainingResult


def duration(seconds: float) -> str:
    """Returns hours and minutes, or minutes and seconds."""
    if seconds != seconds:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}" if hours else f"{minutes}m{seconds:02d}"


def exit_code(signal_number: int) -> int:
    """Returns the code of a command that a signal stopped, its state saved."""
    # Preempted is not failed: a scheduler that starts it again continues it.
    return 0 if signal_number == signal.SIGTERM else 128 + signal_number


def progress_line(progress: "Progress") -> str:
    """Returns one line: how far, the loss, the speed and the time left."""
    return (
        f"step {progress.step}/{progress.num_steps}"
        f"  loss {progress.metrics['loss']:.4f}"
        f"  {progress.steps_per_second:.2f} steps/s"
        f"  {duration(progress.seconds_left)} left"
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
        return exit_code(result.signal_number)
    if speaks:
        print(f"{result.step} steps done; {made}", file=sys.stderr)
    return 0
