"""The rhythm of a run, of one network or of many: steps, reports, saves, pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fusionproxy_jax.training.checkpoint import Checkpoints
from fusionproxy_jax.training.interruption import StopRequest
from fusionproxy_jax.training.reporting import Metrics, Reporter

PyTree = Any


class Rhythm(Protocol):
    """What of a configuration says when something is due."""

    num_steps: int
    log_every: int
    checkpoint_every: int
    picture_every: int


@dataclass(frozen=True)
class Stepping:
    """What takes a state on.

    Attributes:
        read: Number of the first batch -> endless host batches.
        run: (state on its devices, host batch) -> (state, metrics).
        fetch: State on its devices to the host; on every process.
        draw: (step, state on the host): draws the progress.
        meta: Stored with every checkpoint.
    """

    read: Callable[[int], Iterator[dict[str, np.ndarray]]]
    run: Callable[[PyTree, dict[str, np.ndarray]], tuple[PyTree, Metrics]]
    fetch: Callable[[PyTree], PyTree]
    draw: Callable[[int, PyTree], None]
    meta: dict


def advance(
    stepping: Stepping,
    state: PyTree,
    *,
    start: int,
    rhythm: Rhythm,
    checkpoints: Checkpoints,
    reporter: Reporter,
    stop: StopRequest,
) -> tuple[int, PyTree]:
    """Trains until all steps are done or a stop is asked for, and saves the end.

    Args:
        stepping: What is done at each step.
        state: After `start` steps, on its devices.
        start: Updates made before.
        rhythm: How many steps, and what is due when.
        checkpoints: Where states go.
        reporter: Where metrics go; whatever it raises ends the run unsaved.
        stop: Asked before every step.

    Returns:
        The step that was reached, and the state there on the host; None if no step was
        made.
    """
    step = saved_step = start
    on_host = None
    batches = stepping.read(start)
    while step < rhythm.num_steps and not stop.reached(checkpoints, step):
        state, metrics = stepping.run(state, next(batches))
        reporter.add(metrics)
        step += 1
        last = step == rhythm.num_steps
        saving = last or step % rhythm.checkpoint_every == 0
        drawing = last or step % rhythm.picture_every == 0
        if step % rhythm.log_every == 0:
            reporter.report_later()
        if saving or drawing:
            # Before a save: nothing that is not finite is ever kept.
            reporter.report()
            on_host = stepping.fetch(state)
        if saving:
            checkpoints.save(step, on_host, stepping.meta)
            saved_step = step
        if drawing:
            stepping.draw(step, on_host)
    if step != saved_step:
        reporter.report()
        on_host = stepping.fetch(state)
        checkpoints.save(step, on_host, stepping.meta)
    return step, on_host
