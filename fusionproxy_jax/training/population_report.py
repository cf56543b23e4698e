"""What a population reports: one row a member, and who has died."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusionproxy_jax.training.metric_writer import MetricWriter


@dataclass(frozen=True)
class PopulationProgress:
    """Where a population stands, at every report."""

    step: int
    num_steps: int
    steps_per_second: float
    """Of all members together, since this process's first step; NaN before."""
    seconds_left: float
    metrics: Mapping[str, Mapping[str, float]]
    """Member -> means over its steps since the last report; NaN where it is dead."""
    died_at: Mapping[str, int | None]
    """Member -> step that was not finite; None of the living."""


class PopulationReport:
    """Means over the steps of a report, to every member's files and to a callback."""

    def __init__(
        self,
        names: Sequence[str],
        writers: Mapping[str, MetricWriter],
        progress: Callable[[PopulationProgress], None] | None,
        *,
        died_at: np.ndarray,
        num_steps: int,
        batch_size: int,
    ) -> None:
        """Begins with who has died by now, [m] with 0 for the living.

        Without writers and callback, as in all processes but one, it only keeps count.
        """
        self._names, self._writers, self._progress = names, writers, progress
        self._died_at = np.array(died_at)
        self._num_steps, self._batch_size = num_steps, batch_size
        self.seconds_per_step: float | None = None

    @property
    def died_at(self) -> dict[str, int | None]:
        """Member -> step that was not finite; None of the living."""
        return {
            name: int(step) or None
            for name, step in zip(self._names, self._died_at, strict=True)
        }

    def __call__(
        self, step: int, rows: list[dict[str, np.ndarray]], rate: float
    ) -> None:
        """Reports; see `Reporter`."""
        self.seconds_per_step = 1.0 / rate if rate == rate else None
        finite = np.stack([row["finite"] for row in rows])
        for number, lives in enumerate(finite.T):
            if not self._died_at[number] and not lives.all():
                first = int(np.argmin(lives))
                self._died_at[number] = step - len(rows) + 1 + first
        metrics = {
            name: self._means(rows, number, finite[:, number], rate)
            for number, name in enumerate(self._names)
        }
        for name, writer in self._writers.items():
            writer.write(step, metrics[name])
        if self._progress is not None:
            seconds_left = (self._num_steps - step) / rate
            self._progress(
                PopulationProgress(
                    step, self._num_steps, rate, seconds_left, metrics, self.died_at
                )
            )

    def _means(
        self,
        rows: list[dict[str, np.ndarray]],
        number: int,
        lives: np.ndarray,
        rate: float,
    ) -> dict[str, float]:
        """Returns one member's means over the steps it lived through."""
        means = {}
        for name in rows[0]:
            if name == "finite":
                continue
            values = [
                row[name][number] for row, ok in zip(rows, lives, strict=True) if ok
            ]
            means[name] = float(np.mean(values)) if values else float("nan")
        if rate == rate:
            # Its share of the machine: members take turns or are computed together.
            means["images_per_second"] = rate * self._batch_size
        return means
