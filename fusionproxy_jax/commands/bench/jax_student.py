"""A released student in JAX, as a candidate of the ruler and for JAX's device."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.commands.describe import describe_student
from fusionproxy_jax.commands.student_file import read_student
from fusionproxy_jax.evaluation.candidates import NETWORK
from fusionproxy_jax.evaluation.onnx_complexity import GraphCost
from fusionproxy_jax.models.any_size import fuse_any_size
from fusionproxy_jax.models.variants import build_student


class JaxStudent:
    """The Flax network of a weights file; its images are on the device already."""

    # JAX uses threads of its own choice.
    shares_gemm_peak = False
    fixed_size = None

    def __init__(self, name: str, path: Path, *, dtype: str = "float32") -> None:
        """Reads `path`.

        Raises:
            FusionProxyError: It is missing, damaged or holds no student.
        """
        self.name = name
        self._config, self.params, _ = read_student(path)
        self._module = build_student(self._config, dtype=jnp.dtype(dtype))

    def fuse(
        self, visible: jax.Array, params: object, infrared: jax.Array
    ) -> jax.Array:
        """Returns the fused images; float32 NHWC in [0, 1], like `visible`."""
        return fuse_any_size(self._module, params, visible, infrared)

    def calls(
        self, visible: np.ndarray, infrared: np.ndarray
    ) -> dict[str, Callable[[], object]]:
        """Returns the compiled network on this pair."""
        fuse = jax.jit(self.fuse)
        pair = [
            np.float32(image[None]) / np.float32(255)
            for image in (visible, infrared[..., None])
        ]
        inputs = jax.device_put((pair[0], self.params, pair[1]))
        return {NETWORK: lambda: jax.block_until_ready(fuse(*inputs))}

    def cost(self, height: int, width: int) -> GraphCost:
        """Returns what the network costs for one pair."""
        cost = describe_student(self._config, height, width)
        return GraphCost(cost.parameters, cost.multiply_adds, "float32")

    def peak_memory(self, height: int, width: int) -> dict[str, int]:
        """Returns nothing: JAX's own memory would be most of it."""
        return {}
