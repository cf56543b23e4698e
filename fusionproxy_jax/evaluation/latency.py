"""Latency of several ways to run the same thing, measured fairly: warmed, interleaved.

On a shared machine speed drifts within seconds. Candidates take turns, so that drift
meets all of them alike, and ratios stay right where absolute times do not.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call over the rounds, and calls a second at the median."""

    min_ms: float
    p50_ms: float
    p95_ms: float

    @property
    def frames_per_second(self) -> float:
        """Calls a second at the median."""
        return 1000.0 / self.p50_ms


def measure(
    candidates: Mapping[str, Callable[[], object]],
    *,
    num_warmup: int = 3,
    num_rounds: int = 20,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Returns the latency of each candidate; every round calls each of them once.

    A candidate returns when its result is there (JAX: `block_until_ready`). The order
    rotates, so that none always runs after the same neighbour.

    Args:
        candidates: Calls to time, by name.
        num_warmup: Untimed calls of each; compilation and allocation fall in them.
        num_rounds: Timed calls of each.
        clock: Seconds; tests pass their own.
    """
    names = list(candidates)
    for name in names:
        for _ in range(num_warmup):
            candidates[name]()
    milliseconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(num_rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = clock()
            candidates[name]()
            milliseconds[name].append(1000.0 * (clock() - start))
    return {
        name: Latency(
            min_ms=float(np.min(values)),
            p50_ms=float(np.percentile(values, 50)),
            p95_ms=float(np.percentile(values, 95)),
        )
        for name, values in milliseconds.items()
    }
