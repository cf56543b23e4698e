"""Normalisations, Softmax and reductions of ONNX; statistics are taken in float32."""

from collections.abc import Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.panel.onnx_node import (
    OnnxNode,
    Operator,
    Value,
    aligned,
    known_integers,
    library,
    wide,
)

Inputs = Sequence[Value | None]


def _per_channel(vector: Value, rank: int) -> jax.Array:
    return wide(jnp.asarray(vector)).reshape((1, -1) + (1,) * (rank - 2))


def _standardised(x: jax.Array, axes: tuple[int, ...], epsilon: float) -> jax.Array:
    centred = x - jnp.mean(x, axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
    return centred * jax.lax.rsqrt(variance + epsilon)


def _batch_normalization(node: OnnxNode, inputs: Inputs) -> Value:
    if node.get("training_mode", 0):
        raise node.refuse("training_mode 1", "training_mode 0")
    x = jnp.asarray(inputs[0])
    scale, shift, mean, variance = (_per_channel(v, x.ndim) for v in inputs[1:5])
    factor = scale * jax.lax.rsqrt(variance + node.get("epsilon", 1e-5))
    return (x * factor + (shift - mean * factor)).astype(x.dtype)


def _layer_normalization(node: OnnxNode, inputs: Inputs) -> Value:
    x = jnp.asarray(inputs[0])
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    result = _standardised(wide(x), axes, node.get("epsilon", 1e-5))
    for index, function in ((1, jnp.multiply), (2, jnp.add)):
        if index < len(inputs) and inputs[index] is not None:
            vector = wide(jnp.asarray(inputs[index]))
            result = function(*aligned([result, vector]))
    return result.astype(x.dtype)


def _instance_normalization(node: OnnxNode, inputs: Inputs) -> Value:
    x = jnp.asarray(inputs[0])
    scale, shift = (_per_channel(value, x.ndim) for value in inputs[1:3])
    result = _standardised(wide(x), tuple(range(2, x.ndim)), node.get("epsilon", 1e-5))
    return (result * scale + shift).astype(x.dtype)


def _softmax(node: OnnxNode, inputs: Inputs) -> Value:
    x = jnp.asarray(inputs[0])
    if node.opset < 13:
        # Earlier opsets flatten all axes from `axis` on into one.
        axes = tuple(range(node.get("axis", 1) % x.ndim, x.ndim))
    else:
        axes = (node.get("axis", -1),)
    return jax.nn.softmax(wide(x), axis=axes).astype(x.dtype)


def _reduction(name: str) -> Operator:
    def apply(node: OnnxNode, inputs: Inputs) -> Value:
        x = inputs[0]
        axes = known_integers(node, inputs, 1, "axes")
        if not axes:
            if node.get("noop_with_empty_axes", 0):
                return x
            axes = tuple(range(np.ndim(x)))
        function = getattr(library(x), name)
        return function(x, axis=tuple(axes), keepdims=bool(node.get("keepdims", 1)))

    return apply


NORMALIZATION = MappingProxyType(
    {
        "BatchNormalization": _batch_normalization,
        "InstanceNormalization": _instance_normalization,
        "LayerNormalization": _layer_normalization,
        "ReduceMax": _reduction("max"),
        "ReduceMean": _reduction("mean"),
        "ReduceSum": _reduction("sum"),
        "Softmax": _softmax,
    }
)
