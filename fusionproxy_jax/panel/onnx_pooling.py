"""Pooling operators of ONNX, on maps [b, c, spatial axes]."""

from collections.abc import Sequence
from functools import reduce
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.panel.onnx_node import OnnxNode, Operator, Value, wide
from fusionproxy_jax.panel.onnx_windows import Windows, windows

Inputs = Sequence[Value | None]


def _reduce_windows(
    x: jax.Array, axes: list[Windows], *, start: float, largest: bool
) -> jax.Array:
    function = jax.lax.max if largest else jax.lax.add
    return jax.lax.reduce_window(
        x,
        np.array(start, x.dtype),
        function,
        window_dimensions=(1, 1, *(axis.size for axis in axes)),
        window_strides=(1, 1, *(axis.stride for axis in axes)),
        padding=((0, 0), (0, 0), *((a.low, a.high + a.excess) for a in axes)),
        window_dilation=(1, 1, *(axis.dilation for axis in axes)),
    )


def _dilated_max(x: jax.Array, axes: list[Windows]) -> jax.Array:
    """A maximum of shifted maps: JAX has no gradient of dilated maximum windows."""
    pads = ((0, 0), (0, 0), *((a.low, a.high + a.excess) for a in axes))
    padded = jnp.pad(x, pads, constant_values=-jnp.inf)
    shifted = []
    for offset in np.ndindex(*(axis.size for axis in axes)):
        starts = [o * a.dilation for o, a in zip(offset, axes, strict=True)]
        slices = [
            slice(start, start + (axis.count - 1) * axis.stride + 1, axis.stride)
            for start, axis in zip(starts, axes, strict=True)
        ]
        shifted.append(padded[(slice(None), slice(None), *slices)])
    return reduce(jnp.maximum, shifted)


def _max_pool(node: OnnxNode, inputs: Inputs) -> Value:
    x = jnp.asarray(inputs[0])
    axes = windows(node, x.shape[2:], node.get("kernel_shape"))
    if any(axis.dilation != 1 for axis in axes):
        return _dilated_max(x, axes)
    return _reduce_windows(x, axes, start=-np.inf, largest=True)


def _average_pool(node: OnnxNode, inputs: Inputs) -> Value:
    x = jnp.asarray(inputs[0])
    axes = windows(node, x.shape[2:], node.get("kernel_shape"))
    padding = bool(node.get("count_include_pad", 0))
    members = np.ones((1, 1), np.float32)
    for axis, length in zip(axes, x.shape[2:], strict=True):
        members = members[..., None] * axis.members(length, padding=padding)
    total = _reduce_windows(wide(x), axes, start=0.0, largest=False)
    return (total / members.astype(np.float32)).astype(x.dtype)


def _global(name: str) -> Operator:
    def apply(node: OnnxNode, inputs: Inputs) -> Value:
        x = jnp.asarray(inputs[0])
        return getattr(jnp, name)(x, axis=tuple(range(2, x.ndim)), keepdims=True)

    return apply


POOLING = MappingProxyType(
    {
        "AveragePool": _average_pool,
        "GlobalAveragePool": _global("mean"),
        "GlobalMaxPool": _global("max"),
        "MaxPool": _max_pool,
    }
)
