"""How `fusionproxy sweep` shows where it stands: a live table, or plain lines."""

import math
import shutil
from typing import TYPE_CHECKING, TextIO

from fusionproxy_jax.commands.training_progress import duration

if TYPE_CHECKING:
    from fusionproxy_jax.sweeps.run import SweepProgress

_UP_AND_CLEAR = "\x1b[{}F\x1b[J"


class SweepDisplay:
    """Draws the members again and again on a terminal, a line a report elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        """Takes where to draw."""
        self._stream = stream
        self._live = stream.isatty()
        self._drawn = 0

    def show(self, progress: "SweepProgress") -> None:
        """Shows a report."""
        if not self._live:
            print(summary_line(progress), file=self._stream, flush=True)
            return
        size = shutil.get_terminal_size()
        lines = [line[: size.columns - 1] for line in table_lines(progress)]
        # Lines that scrolled away cannot be drawn over.
        if len(lines) >= size.lines:
            hidden = len(lines) - (size.lines - 2)
            lines = [*lines[: size.lines - 2], f"  and {hidden} more"]
        start = _UP_AND_CLEAR.format(self._drawn) if self._drawn else ""
        print(start + "\n".join(lines), file=self._stream, flush=True)
        self._drawn = len(lines)

    def tell(self, sentence: str) -> None:
        """Shows a sentence that stays."""
        print(sentence, file=self._stream, flush=True)
        self._drawn = 0


def summary_line(progress: "SweepProgress") -> str:
    """Returns one line: how far, lowest and highest loss, deaths, speed, time left."""
    population = progress.population
    losses = [
        values["loss"]
        for values in population.metrics.values()
        if math.isfinite(values.get("loss", math.nan))
    ]
    loss = f"loss {min(losses):.4f} to {max(losses):.4f}" if losses else "no loss"
    dead = sum(step is not None for step in population.died_at.values())
    died = f"  {dead} of {len(population.died_at)} dead" if dead else ""
    return f"{_position(progress)}  {loss}{died}{_speed(progress)}"


def table_lines(progress: "SweepProgress") -> list[str]:
    """Returns a line on the program and one a member: name, loss, state."""
    population = progress.population
    width = max(map(len, population.died_at))
    lines = [f"{_position(progress)}{_speed(progress)}"]
    for name, died_at in population.died_at.items():
        loss = population.metrics.get(name, {}).get("loss", math.nan)
        shown = f"{loss:.4f}" if math.isfinite(loss) else "-"
        state = "running" if died_at is None else f"died at step {died_at}"
        lines.append(f"  {name:<{width}}  {shown:>10}  {state}")
    return lines


def _position(progress: "SweepProgress") -> str:
    population = progress.population
    return (
        f"program {progress.number}/{progress.num_programs}"
        f"  step {population.step}/{population.num_steps}"
    )


def _speed(progress: "SweepProgress") -> str:
    """Returns speed and time left, nothing before they are known."""
    population = progress.population
    if not math.isfinite(population.steps_per_second):
        return ""
    return (
        f"  {population.steps_per_second:.2f} steps/s"
        f"  {duration(population.seconds_left)} left"
    )
