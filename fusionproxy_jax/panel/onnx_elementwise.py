"""ONNX operators that work on every element by itself."""

from collections.abc import Callable, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.panel.onnx_node import (
    OnnxNode,
    Operator,
    Value,
    aligned,
    at,
    library,
    unified,
)

Inputs = Sequence[Value | None]


def _unary(name: str) -> Operator:
    """A function that NumPy and JAX both have."""
    return lambda node, inputs: getattr(library(*inputs), name)(inputs[0])


def _broadcast(name: str) -> Operator:
    """A function of two values, or of any number from left to right."""

    def apply(node: OnnxNode, inputs: Inputs) -> Value:
        function = getattr(library(*inputs), name)
        result, *others = aligned(unified(inputs))
        for other in others:
            result = function(result, other)
        return result

    return apply


def _activation(function: Callable[..., jax.Array], **defaults: float) -> Operator:
    """A function with numbers as attributes."""

    def apply(node: OnnxNode, inputs: Inputs) -> Value:
        numbers = {name: node.get(name, value) for name, value in defaults.items()}
        return function(jnp.asarray(inputs[0]), **numbers)

    return apply


def _divide(node: OnnxNode, inputs: Inputs) -> Value:
    xp = library(*inputs)
    dividend, divisor = aligned(unified(inputs))
    if jnp.issubdtype(dividend.dtype, jnp.floating):
        return xp.divide(dividend, divisor)
    # Integers are rounded towards zero, not down.
    sign = xp.sign(dividend) * xp.sign(divisor)
    return sign * (xp.abs(dividend) // xp.abs(divisor))


def _power(node: OnnxNode, inputs: Inputs) -> Value:
    base, exponent = inputs
    if isinstance(exponent, np.ndarray) and exponent.shape == ():
        # As a Python number: JAX makes products of small integers.
        number = exponent.item()
        whole = int(number) if number == int(number) else number
        return (base**whole).astype(base.dtype)
    xp = library(base, exponent)
    return xp.power(*aligned(unified(inputs))).astype(base.dtype)


def _where(node: OnnxNode, inputs: Inputs) -> Value:
    condition, *values = inputs
    return library(*inputs).where(*aligned([condition, *unified(values)]))


def _clip(node: OnnxNode, inputs: Inputs) -> Value:
    x = inputs[0]
    if node.opset < 11:
        bounds = [node.get("min"), node.get("max")]
        low, high = (None if b is None else np.asarray(b, np.float32) for b in bounds)
    else:
        low, high = at(inputs, 1), at(inputs, 2)
    xp = library(x, low, high)
    if low is not None:
        x = xp.maximum(x, low.reshape((1,) * np.ndim(x)).astype(x.dtype))
    if high is not None:
        x = xp.minimum(x, high.reshape((1,) * np.ndim(x)).astype(x.dtype))
    return x


def _cast(node: OnnxNode, inputs: Inputs) -> Value:
    x = inputs[0]
    dtype = node.get("to")
    if isinstance(x, np.ndarray):
        return x.astype(dtype)
    if jnp.issubdtype(dtype, jnp.floating):
        # Precision is chosen by who loads the network, not by the file.
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return x if floating else x.astype(jnp.float32)
    return x.astype(bool if np.issubdtype(dtype, np.bool_) else jnp.int32)


def _leaky_relu(x: jax.Array, alpha: float) -> jax.Array:
    return jnp.where(x >= 0, x, alpha * x)


def _parametric_relu(node: OnnxNode, inputs: Inputs) -> Value:
    x, slope = aligned(unified(inputs))
    return jnp.where(x >= 0, x, slope * x)


def _elu(x: jax.Array, alpha: float) -> jax.Array:
    return jax.nn.elu(x, alpha)


def _hard_sigmoid(x: jax.Array, alpha: float, beta: float) -> jax.Array:
    return jnp.clip(alpha * x + beta, 0, 1)


def _hard_swish(x: jax.Array) -> jax.Array:
    return x * _hard_sigmoid(x, 1 / 6, 0.5)


def _mish(x: jax.Array) -> jax.Array:
    return x * jnp.tanh(jax.nn.softplus(x))


def _gelu(node: OnnxNode, inputs: Inputs) -> Value:
    approximate = node.get("approximate", "none") == "tanh"
    return jax.nn.gelu(jnp.asarray(inputs[0]), approximate=approximate)


def _same(node: OnnxNode, inputs: Inputs) -> Value:
    return inputs[0]


ELEMENTWISE = MappingProxyType(
    {
        "Abs": _unary("abs"),
        "Ceil": _unary("ceil"),
        "Exp": _unary("exp"),
        "Floor": _unary("floor"),
        "Log": _unary("log"),
        "Neg": _unary("negative"),
        "Reciprocal": _unary("reciprocal"),
        "Sqrt": _unary("sqrt"),
        "Tanh": _unary("tanh"),
        "Add": _broadcast("add"),
        "Equal": _broadcast("equal"),
        "Max": _broadcast("maximum"),
        "Min": _broadcast("minimum"),
        "Mul": _broadcast("multiply"),
        "Sub": _broadcast("subtract"),
        "Div": _divide,
        "Pow": _power,
        "Where": _where,
        "Cast": _cast,
        "Clip": _clip,
        "Dropout": _same,
        "Identity": _same,
        "Elu": _activation(_elu, alpha=1.0),
        "Erf": _activation(jax.scipy.special.erf),
        "Gelu": _gelu,
        "HardSigmoid": _activation(_hard_sigmoid, alpha=0.2, beta=0.5),
        "HardSwish": _activation(_hard_swish),
        "LeakyRelu": _activation(_leaky_relu, alpha=0.01),
        "Mish": _activation(_mish),
        "PRelu": _parametric_relu,
        "Relu": _activation(jax.nn.relu),
        "Sigmoid": _activation(jax.nn.sigmoid),
        "Softplus": _activation(jax.nn.softplus),
    }
)
