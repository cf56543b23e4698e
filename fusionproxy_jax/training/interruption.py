"""Turns SIGTERM and SIGINT into a request to stop after the current step.

Of several processes all must stop after the same step, whichever was signalled. They
agree on it through the service that `jax.distributed` starts, which listens for SIGTERM
itself; here SIGINT is passed on to it, and SIGTERM left to it.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

import jax


class Checkpointed(Protocol):
    """What knows when several processes are to stop; `Checkpoints` does."""

    def reached_preemption(self, step: int) -> bool:
        """Returns whether all processes are to stop after `step`."""


class StopRequest:
    """The signal that asked the run to stop, if one has."""

    signal_number: int | None = None

    def __bool__(self) -> bool:
        """Returns whether a stop was asked for."""
        return self.signal_number is not None

    def reached(self, checkpoints: Checkpointed, step: int) -> bool:
        """Returns whether to stop after `step`; the same on every process."""
        if jax.process_count() == 1:
            return bool(self)
        if not checkpoints.reached_preemption(step):
            return False
        # That of another process's signal, where none came here.
        self.signal_number = self.signal_number or signal.SIGTERM
        return True


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Yields a request that SIGTERM or SIGINT sets; a second signal acts as usual.

    Outside the main thread Python cannot take signals, and the request is never set. In
    one of several processes it only says which signal came, see
    `Checkpoints.reached_preemption`.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    together = jax.process_count() > 1
    taken = (signal.SIGINT,) if together else (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.getsignal(number) for number in taken}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        # Someone who signals twice does not want to wait for a checkpoint.
        restore()
        if together:
            os.kill(os.getpid(), signal.SIGTERM)

    for number in previous:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()
