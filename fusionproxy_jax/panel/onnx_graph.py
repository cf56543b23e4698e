"""A part of an ONNX graph as a pure JAX function of parameters and an image."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.onnx_node import OnnxNode, Value
from fusionproxy_jax.panel.onnx_operators import OPERATORS


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """Call with parameters and one image to get the tensors."""

    tensors: tuple[str, ...]
    image: str
    """Name of the input."""
    image_size: tuple[int | None, int | None]
    """Height and width that the file prescribes, None where it takes any."""
    nodes: tuple[OnnxNode, ...]
    """In an order in which they can be evaluated."""
    params: Mapping[str, np.ndarray]
    """float32, by tensor name."""
    constants: Mapping[str, np.ndarray]
    """Known to the compiler."""
    digest: str
    """64 hex digits that change with weights, nodes or input size."""

    def __call__(
        self, params: Mapping[str, jax.Array], image: jax.Array
    ) -> tuple[jax.Array, ...]:
        """Evaluates the graph.

        Args:
            params: As `params`, in the dtype to compute in.
            image: [1, 3, h, w], prepared as the network wants it, of the same dtype.

        Returns:
            One array for each of `tensors`.

        Raises:
            FusionProxyError: A node needs pixel values for a shape, has a setting that
                is not implemented, or does not fit this image size.
        """
        # Not NumPy: that would stand for what is known before any image.
        given = {name: jnp.asarray(value) for name, value in params.items()}
        given[self.image] = jnp.asarray(image)
        values: dict[str, Value] = {**self.constants, **given}
        for node in self.nodes:
            values.update(evaluate(node, values))
        return tuple(jnp.asarray(values[name]) for name in self.tensors)


def evaluate(node: OnnxNode, values: Mapping[str, Value]) -> dict[str, Value]:
    """Returns the outputs of one node by name."""
    inputs = [values[name] if name else None for name in node.inputs]
    try:
        outputs = OPERATORS[node.operator](node, inputs)
    except (TypeError, ValueError, IndexError) as error:
        shapes = [np.shape(value) for value in inputs if value is not None]
        reason = str(error).strip().split("\n")[0]
        raise FusionProxyError(
            f"{node} cannot be evaluated on inputs of shapes {shapes}: {reason}"
        ) from error
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    # NumPy makes scalars of what has no axes.
    outputs = [np.asarray(v) if isinstance(v, np.generic) else v for v in outputs]
    # Of optional outputs only the first is computed.
    return dict(zip(node.outputs, outputs, strict=False))
