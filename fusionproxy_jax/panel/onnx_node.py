"""One operator call of an ONNX graph, as the evaluator sees it.

Values are of two kinds. A `np.ndarray` is known before any image is: constants, and the
shape arithmetic that exporters write around `Reshape`, since shapes are static in JAX.
Everything else is a `jax.Array`: parameters and what is computed from pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.errors import FusionProxyError

Value = jax.Array | np.ndarray


@dataclass(frozen=True)
class OnnxNode:
    """Plain Python and NumPy; no onnx objects."""

    operator: str
    """With its domain (`com.microsoft::Gelu`) unless that is ONNX's own."""
    name: str
    inputs: tuple[str, ...]
    """Empty where an optional input is absent."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    """Numbers, strings, tuples of them, arrays; Cast's `to` is a NumPy dtype."""
    opset: int

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.operator})"

    def get(self, attribute: str, default: Any = None) -> Any:
        """Returns the value of an attribute, `default` where it is not written."""
        return self.attributes.get(attribute, default)

    def refuse(self, given: str, allowed: str) -> FusionProxyError:
        """Returns the error for a setting that is not implemented."""
        return FusionProxyError(
            f"{self} has {given}, of which only {allowed} can be evaluated; choose a "
            "tensor before it, or export the network without it"
        )


Operator = Callable[[OnnxNode, Sequence[Value | None]], Value | tuple[Value, ...]]
"""(node, inputs) to the first output, or a tuple of all; inputs may be cut short."""


def at(inputs: Sequence[Value | None], index: int) -> Value | None:
    """Returns an optional input, None where it is absent."""
    return inputs[index] if index < len(inputs) else None


def known(node: OnnxNode, value: Value | None, what: str) -> np.ndarray | None:
    """Returns an input that must not depend on pixels, None where it is absent."""
    if value is None or isinstance(value, np.ndarray):
        return value
    raise FusionProxyError(
        f"{node} computes its {what} from pixels or weights; only what follows from "
        "shapes and constants can be evaluated, so choose a tensor before it"
    )


def known_integers(
    node: OnnxNode, inputs: Sequence[Value | None], index: int, what: str
) -> tuple[int, ...] | None:
    """Returns a list of integers that later opsets give as an input.

    Earlier ones give it as the attribute `what`. None where it is absent.
    """
    value = known(node, at(inputs, index), what)
    if value is None:
        return node.get(what)
    return tuple(int(number) for number in np.ravel(value))


def library(*values: Value | None) -> Any:
    """Returns `numpy` if all values are known, else `jax.numpy`."""
    given = [value for value in values if value is not None]
    return np if all(isinstance(value, np.ndarray) for value in given) else jnp


def unified(values: Sequence[Value]) -> list[Value]:
    """Returns values with one dtype for each kind of number.

    Constants follow what they meet, so that a float32 number in the file does not
    widen a bfloat16 map.
    """
    traced = [value for value in values if not isinstance(value, np.ndarray)]

    def follow(value: Value) -> Value:
        for other in traced:
            if jnp.issubdtype(other.dtype, jnp.floating) == jnp.issubdtype(
                value.dtype, jnp.floating
            ) and (value.dtype == bool) == (other.dtype == bool):
                return value.astype(other.dtype)
        return value

    return [follow(v) if isinstance(v, np.ndarray) else v for v in values]


def aligned(values: Sequence[Value]) -> list[Value]:
    """Returns values with leading axes of size 1, so that all have the same rank."""
    rank = max(np.ndim(value) for value in values)
    return [
        value.reshape((1,) * (rank - np.ndim(value)) + tuple(value.shape))
        for value in values
    ]


def wide(x: jax.Array) -> jax.Array:
    """Returns floating numbers of at least 32 bits, to take statistics of."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
