"""Turns SIGTERM and SIGINT into a request to stop after the current step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """The signal that asked the run to stop, if one has."""

    signal_number: int | None = None

    def __bool__(self) -> bool:
        """Returns whether a stop was asked for."""
        return self.signal_number is not None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Yields a request that SIGTERM or SIGINT sets; a second signal acts as usual.

    Outside the main thread Python cannot take signals, and the request is never set.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)
    }

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        # Someone who signals twice does not want to wait for a checkpoint.
        restore()

    for number in previous:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()
