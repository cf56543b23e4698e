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

from fusionproxy_jax.training.metric_writer import MetricWriter
from fusionproxy_jax.training.parallel import Parallel

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


class Reporter:
    """Gathers what steps return, and reports to files and to a callback."""

    def __init__(
        self,
        parallel: Parallel,
        writer: MetricWriter,
        *,
        start: int,
        num_steps: int,
        batch_size: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        """Begins after step `start`."""
        self._parallel, self._writer, self._progress = parallel, writer, progress
        self._start, self._num_steps, self._batch_size = start, num_steps, batch_size
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
        """Writes one row of means over the steps since the last one, if any.

        Raises:
            NotFiniteError: At the first of them that was not finite; nothing is
                written.
        """
        self._is_due = False
        if not self._pending:
            return
        rows = self._parallel.unreplicate(self._pending)
        for offset, metrics in enumerate(rows):
            if not metrics["finite"]:
                raise NotFiniteError(self._step - len(rows) + 1 + offset)
        self._pending.clear()
        means = {
            name: float(np.mean([metrics[name] for metrics in rows]))
            for name in rows[0]
            if name != "finite"
        }
        num_timed = self._step - self._start - 1
        rate = float("nan")
        if num_timed:
            rate = num_timed / (time.perf_counter() - self._first_done)
            means["images_per_second"] = rate * self._batch_size
        self._writer.write(self._step, means)
        if self._progress is not None:
            seconds_left = (self._num_steps - self._step) / rate
            self._progress(
                Progress(self._step, self._num_steps, rate, seconds_left, means)
            )
