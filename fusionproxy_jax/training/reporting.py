"""Collects the metrics of single steps and reports their means now and then.

Step metrics stay on the device until a report is due, and are fetched while the next
step runs, so that the device never waits for the host to read a loss; a NaN is still
found at the very step it came up in.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class Progress:
    """Where a run stands, at every report."""

    step: int
    num_steps: int
    steps_per_second: float
    """Since this process's first step, whose compilation is left out; NaN before."""
    seconds_left: float
    metrics: Mapping[str, float]
    """Means since the last report."""


class NotFiniteError(ArithmeticError):
    """The loss, its gradient or the parameters became NaN or infinite at `step`."""

    def __init__(self, step: int) -> None:
        super().__init__(f"not finite at step {step}")
        self.step = step


# (step, metrics of every step since the last report, steps a second or NaN).
Emit = Callable[[int, list[dict[str, np.ndarray]], float], None]


class Reporter:
    """Gathers what steps return, and hands it on now and then."""

    def __init__(
        self,
        fetch: Callable[[list[Metrics]], list[dict[str, np.ndarray]]],
        emit: Emit,
        *,
        start: int,
    ) -> None:
        """Begins after step `start`.

        Args:
            fetch: Metrics on the devices to the host; all processes call it together.
            emit: Gets what is reported.
            start: Updates made before.
        """
        self._fetch, self._emit, self._start = fetch, emit, start
        self._step = start
        self._pending: list[Metrics] = []
        self._first_done = float("nan")
        self._is_due = False

    def report_later(self) -> None:
        """Has the steps so far reported once the next one is on its way."""
        self._is_due = True

    def add(self, metrics: Metrics) -> None:
        """Takes the metrics of the next step, still being computed.

        Raises:
            NotFiniteError: As `report`, where one was due.
        """
        if self._step == self._start:
            jax.block_until_ready(metrics)
            self._first_done = time.perf_counter()
        elif self._pending:
            # One step ahead of the device and no further: batches would pile up.
            jax.block_until_ready(self._pending[-1])
        if self._is_due:
            self.report()
        self._pending.append(metrics)
        self._step += 1

    def report(self) -> None:
        """Reports the steps since the last report, if any.

        Raises:
            NotFiniteError: Where `emit` raises it.
        """
        self._is_due = False
        if not self._pending:
            return
        rows = self._fetch(self._pending)
        self._pending.clear()
        num_timed = self._step - self._start - 1
        seconds = time.perf_counter() - self._first_done
        self._emit(self._step, rows, num_timed / seconds if num_timed else float("nan"))


class RunReport:
    """Means over the steps of a report, to a run's files and to a callback."""

    def __init__(
        self,
        write: Callable[[int, Mapping[str, float]], None] | None,
        progress: Callable[[Progress], None] | None,
        *,
        num_steps: int,
        batch_size: int,
    ) -> None:
        """Takes where a row goes; None, both, in all processes but one."""
        self._write, self._progress = write, progress
        self._num_steps, self._batch_size = num_steps, batch_size

    def __call__(
        self, step: int, rows: list[dict[str, np.ndarray]], rate: float
    ) -> None:
        """Reports.

        Raises:
            NotFiniteError: At the first step that was not finite; nothing is written.
        """
        for offset, metrics in enumerate(rows):
            if not metrics["finite"]:
                raise NotFiniteError(step - len(rows) + 1 + offset)
        means = {
            name: float(np.mean([metrics[name] for metrics in rows]))
            for name in rows[0]
            if name != "finite"
        }
        if rate == rate:
            means["images_per_second"] = rate * self._batch_size
        if self._write is not None:
            self._write(step, means)
        if self._progress is not None:
            seconds_left = (self._num_steps - step) / rate
            self._progress(Progress(step, self._num_steps, rate, seconds_left, means))
