"""What the ruler measures, and its usual kind: an ONNX file opened in a runtime."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.graph_images import from_tensor, to_tensors
from fusionproxy_jax.evaluation.image_graph import Size, read_image_graph
from fusionproxy_jax.evaluation.memory import measure_peak_memory
from fusionproxy_jax.evaluation.runners import (
    RunnerOptions,
    Runtime,
    first_line,
    open_graph,
)

if TYPE_CHECKING:
    from fusionproxy_jax.evaluation.onnx_complexity import GraphCost

NETWORK = "network"
"""Timed: the network alone, its inputs prepared."""
END_TO_END = "end to end"
"""Timed: uint8 RGB and infrared in, uint8 RGB out, with every conversion."""


class Candidate(Protocol):
    """Something that fuses pairs and can be timed."""

    name: str
    # Whether the measured rate of matrix products is that of its device and threads.
    shares_gemm_peak: bool

    @property
    def fixed_size(self) -> Size | None:
        """The only size it takes; None where any goes."""

    def calls(
        self, visible: np.ndarray, infrared: np.ndarray
    ) -> Mapping[str, Callable[[], object]]:
        """Returns what to time on this pair, by `NETWORK` and `END_TO_END`.

        Raises:
            FusionProxyError: It cannot fuse this pair.
        """

    def cost(self, height: int, width: int) -> "GraphCost | None":
        """Returns parameters and multiply-adds, where they can be counted."""

    def peak_memory(self, height: int, width: int) -> Mapping[str, int]:
        """Returns bytes by way of timing, where they can be measured."""


class GraphFile:
    """An ONNX file opened in a runtime."""

    shares_gemm_peak = True

    def __init__(
        self, name: str, path: Path, *, runtime: Runtime, options: RunnerOptions
    ) -> None:
        """Opens `path`.

        Raises:
            FusionProxyError: It cannot be opened, or takes no images.
        """
        self.name = name
        self.path = path
        self.runtime = runtime
        self.options = options
        self._opened = open_graph(path, runtime=runtime, options=options)
        self.graph = read_image_graph(
            str(path), self._opened.inputs, self._opened.outputs
        )

    @property
    def fixed_size(self) -> Size | None:
        """The only size it takes; None where any goes."""
        return self.graph.fixed_size

    def network_call(
        self, visible: np.ndarray, infrared: np.ndarray
    ) -> Callable[[], np.ndarray]:
        """Returns a run of the network on this pair, prepared beforehand."""
        tensors = to_tensors(self.graph, visible, infrared)
        return lambda: self._run(tensors)

    def end_to_end_call(
        self, visible: np.ndarray, infrared: np.ndarray
    ) -> Callable[[], np.ndarray]:
        """Returns the whole way from this pair of the camera to an image."""

        def fuse() -> np.ndarray:
            fused = self._run(to_tensors(self.graph, visible, infrared))
            return from_tensor(self.graph, fused, visible)

        return fuse

    def calls(
        self, visible: np.ndarray, infrared: np.ndarray
    ) -> dict[str, Callable[[], object]]:
        """Returns both ways of timing, after a run that shows that they work."""
        height, width = visible.shape[:2]
        self.graph.check_size(height, width)
        end_to_end = self.end_to_end_call(visible, infrared)
        try:
            end_to_end()
        except FusionProxyError:
            raise
        # Exceptions of the runtimes, which share no base class.
        except Exception as error:
            raise FusionProxyError(
                f"{self.path} cannot fuse {height}x{width} ({first_line(error)}); give "
                "a size it takes"
            ) from error
        return {NETWORK: self.network_call(visible, infrared), END_TO_END: end_to_end}

    def cost(self, height: int, width: int) -> "GraphCost":
        """Returns what the graph costs.

        Raises:
            FusionProxyError: The package `onnx` is missing, or cannot read the file.
        """
        if importlib.util.find_spec("onnx") is None:
            raise FusionProxyError(
                "parameters and multiply-adds are read with the package onnx; run pip "
                "install 'fusionproxy-jax[train]'"
            )
        from fusionproxy_jax.evaluation.onnx_complexity import graph_cost

        return graph_cost(self.path, height=height, width=width)

    def peak_memory(self, height: int, width: int) -> dict[str, int]:
        """Returns the growth of a fresh process in bytes, by way of timing."""
        return measure_peak_memory(
            self.path,
            runtime=self.runtime,
            options=self.options,
            height=height,
            width=width,
        )

    def _run(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._opened.run(tensors, [self.graph.output])[0]
