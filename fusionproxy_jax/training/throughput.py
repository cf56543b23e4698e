"""How fast training steps are, and whether the loader keeps up with them."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fusionproxy_jax.evaluation.latency import Key, measure_rounds, summarize
from fusionproxy_jax.training.timed_step import Batch, TimedStep

# Steps in a row between two readings of the clock, at least.
_STEPS_IN_A_ROW = 10
# Batches that a loader may hold ready when timing begins.
_READY_BATCHES = 8


@dataclass(frozen=True, kw_only=True)
class StepSpeed:
    """Milliseconds of one step.

    Attributes:
        min_ms: Of the rounds, as the next two; each step waited for.
        p50_ms: Median.
        p95_ms: 95th percentile.
        dispatch_ms: The host's share of it at the median: until the step is sent.
        ahead_ms: Of a step in a row, each sent while the last one computes.
        fed_ms: As `ahead_ms`, with every batch from the loader.
    """

    min_ms: float
    p50_ms: float
    p95_ms: float
    dispatch_ms: float
    ahead_ms: float
    fed_ms: float


def measure_steps(
    steps: Mapping[Key, TimedStep],
    loaders: Mapping[Key, Iterator[Batch]],
    *,
    num_steps: int = 20,
    num_warmup: int = 2,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, StepSpeed]:
    """Returns the speed of each step, all taking turns.

    Args:
        steps: Steps to time, by name.
        loaders: Endless batches for each, by the same names.
        num_steps: Timed steps of each, one by one; in a row, the whole rows of ten in
            that number, or one shorter row. The loader may have made the first batches
            of a fed row ready while others were timed.
        num_warmup: Untimed steps of each before.
        seed: Of the order.
        clock: Seconds; tests pass their own.
    """
    rounds = measure_rounds(
        {name: step.run for name, step in steps.items()},
        num_warmup=num_warmup,
        num_rounds=num_steps,
        seed=seed,
        clock=clock,
    )
    in_a_row = min(num_steps, _STEPS_IN_A_ROW)
    held = {name: itertools.repeat(step.batch) for name, step in steps.items()}
    rows = measure_rounds(
        {
            (name, way): lambda step=step, batches=batches[name]: step.run_ahead(
                batches, in_a_row
            )
            for name, step in steps.items()
            for way, batches in (("ahead", held), ("fed", loaders))
        },
        num_warmup=0,
        num_rounds=num_steps // in_a_row,
        seed=seed,
        clock=clock,
    )
    return {
        name: StepSpeed(
            min_ms=summarize(rounds[name]).min_ms,
            p50_ms=summarize(rounds[name]).p50_ms,
            p95_ms=summarize(rounds[name]).p95_ms,
            dispatch_ms=float(np.median(step.dispatch_ms[-num_steps:])),
            ahead_ms=float(np.median(rows[name, "ahead"])) / in_a_row,
            fed_ms=float(np.median(rows[name, "fed"])) / in_a_row,
        )
        for name, step in steps.items()
    }


def measure_loader(
    batches: Iterator[Batch],
    *,
    num_batches: int = 20,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Returns the milliseconds of one batch when nothing else is done.

    Batches made ready beforehand are drawn first: the rate is that of making them.
    """
    for _ in range(_READY_BATCHES):
        next(batches)
    start = clock()
    for _ in range(num_batches):
        next(batches)
    return 1000.0 * (clock() - start) / num_batches
