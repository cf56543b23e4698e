"""Python functions on camera images, of any framework, measured by the ruler."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.candidates import END_TO_END
from fusionproxy_jax.evaluation.image_graph import Size
from fusionproxy_jax.evaluation.ruler import TABLE_3_SIZES, Row, measure_candidates

Fuse = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Visible uint8 [h, w, 3] and infrared uint8 [h, w] -> fused, a NumPy array."""


def measure_callables(
    candidates: Mapping[str, Fuse],
    *,
    sizes: Sequence[Size] = TABLE_3_SIZES,
    num_warmup: int = 3,
    num_rounds: int = 20,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Row, ...]:
    """Returns the end-to-end latency of Python functions, all taking turns.

    >>> measure_callables({"base": load("base"), "mine": fuse}, sizes=[(480, 640)])

    Args:
        candidates: Name -> function of visible uint8 [h, w, 3] and infrared uint8
            [h, w] that returns a NumPy array; the first is the one to compare with.
        sizes: Height and width of the pairs.
        num_warmup: Untimed calls of each.
        num_rounds: Timed calls of each.
        seed: Of the order within the rounds.
        clock: Seconds; tests pass their own.

    Raises:
        FusionProxyError: No candidate, or one that returns no NumPy array.
    """
    functions = [Function(name, fuse) for name, fuse in candidates.items()]
    measurement = measure_candidates(
        functions,
        sizes=sizes,
        num_warmup=num_warmup,
        num_rounds=num_rounds,
        seed=seed,
        clock=clock,
    )
    if measurement.notes:
        raise FusionProxyError(measurement.notes[0])
    return measurement.rows


class Function:
    """A Python function on camera images, of any framework behind it."""

    shares_gemm_peak = False
    fixed_size = None

    def __init__(self, name: str, fuse: Fuse) -> None:
        """Takes what to call."""
        self.name = name
        self._fuse = fuse

    def calls(
        self, visible: np.ndarray, infrared: np.ndarray
    ) -> dict[str, Callable[[], object]]:
        """Returns one call of the function.

        Raises:
            FusionProxyError: The function returns no NumPy array, so that its result
                may still be under way or on a device when the clock stops.
        """
        fused = self._fuse(visible, infrared)
        if not isinstance(fused, np.ndarray):
            raise FusionProxyError(
                f"{self.name} returns {type(fused).__name__}; a timed function returns "
                "a NumPy array, so convert its result inside"
            )
        return {END_TO_END: lambda: self._fuse(visible, infrared)}

    def cost(self, height: int, width: int) -> None:
        """Returns nothing: what a function does is not known."""

    def peak_memory(self, height: int, width: int) -> dict[str, int]:
        """Returns nothing: a function cannot move to a process of its own."""
        return {}
