"""Latency of several ways to run the same thing, measured fairly: warmed, interleaved.

On a shared machine speed drifts within seconds. Candidates take turns, so that drift
meets all of them alike, and ratios stay right where absolute times do not.
"""

import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)


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


def measure_rounds(
    candidates: Mapping[Key, Callable[[], object]],
    *,
    num_warmup: int = 3,
    num_rounds: int = 20,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, list[float]]:
    """Returns the milliseconds of each candidate by round; a round calls each once.

    A candidate returns when its result is there (JAX: `block_until_ready`). Every round
    has an order of its own, so that none always runs after the same neighbour.

    Args:
        candidates: Calls to time, by name.
        num_warmup: Untimed calls of each; compilation and allocation fall in them.
        num_rounds: Timed calls of each.
        seed: Of the orders.
        clock: Seconds; tests pass their own.
    """
    names = list(candidates)
    for name in names:
        for _ in range(num_warmup):
            candidates[name]()
    shuffler = random.Random(seed)
    milliseconds: dict[Key, list[float]] = {name: [] for name in names}
    for _ in range(num_rounds):
        for name in shuffler.sample(names, len(names)):
            start = clock()
            candidates[name]()
            milliseconds[name].append(1000.0 * (clock() - start))
    return milliseconds


def summarize(milliseconds: Sequence[float]) -> Latency:
    """Returns minimum and percentiles of the rounds."""
    return Latency(
        min_ms=float(np.min(milliseconds)),
        p50_ms=float(np.percentile(milliseconds, 50)),
        p95_ms=float(np.percentile(milliseconds, 95)),
    )


def median_ratio(milliseconds: Sequence[float], reference: Sequence[float]) -> float:
    """Returns how many times as long as the reference, at the median of the rounds.

    Each round gives one ratio: what slowed the machine for a while slowed both.
    """
    return float(np.median(np.divide(milliseconds, reference)))


def measure(
    candidates: Mapping[str, Callable[[], object]],
    *,
    num_warmup: int = 3,
    num_rounds: int = 20,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Returns the latency of each candidate; see `measure_rounds`."""
    rounds = measure_rounds(
        candidates,
        num_warmup=num_warmup,
        num_rounds=num_rounds,
        seed=seed,
        clock=clock,
    )
    return {name: summarize(values) for name, values in rounds.items()}
