"""Conv, Gemm and MatMul of ONNX."""

from collections.abc import Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp

from fusionproxy_jax.panel.onnx_node import OnnxNode, Value, aligned, at, unified
from fusionproxy_jax.panel.onnx_windows import Windows, windows

Inputs = Sequence[Value | None]


def _shifted_products(
    x: jax.Array, kernel: jax.Array, axes: Sequence[Windows]
) -> jax.Array:
    """Depthwise convolution as a sum over the kernel's elements.

    XLA's CPU backend runs grouped convolutions through a generic loop, which is many
    times slower, most of all in the gradient.
    """
    rows, columns = axes
    padded = jnp.pad(x, ((0, 0), (0, 0), *((axis.low, axis.high) for axis in axes)))
    total = None
    for row in range(rows.size):
        for column in range(columns.size):
            top, left = row * rows.dilation, column * columns.dilation
            window = padded[
                :,
                :,
                top : top + (rows.count - 1) * rows.stride + 1 : rows.stride,
                left : left + (columns.count - 1) * columns.stride + 1 : columns.stride,
            ]
            product = window * kernel[:, 0, row, column].reshape(1, -1, 1, 1)
            total = product if total is None else total + product
    return total


def _convolution(node: OnnxNode, inputs: Inputs) -> Value:
    x, kernel = (jnp.asarray(value) for value in inputs[:2])
    groups = node.get("group", 1)
    axes = windows(node, x.shape[2:], kernel.shape[2:])
    depthwise = x.ndim == 4 and groups == x.shape[1] == kernel.shape[0]
    if depthwise and jax.default_backend() == "cpu":
        result = _shifted_products(x, kernel, axes)
    else:
        letters = "DHW"[-len(axes) :]
        result = jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=[axis.stride for axis in axes],
            padding=[(axis.low, axis.high) for axis in axes],
            rhs_dilation=[axis.dilation for axis in axes],
            dimension_numbers=("NC" + letters, "OI" + letters, "NC" + letters),
            feature_group_count=groups,
        )
    bias = at(inputs, 2)
    if bias is None:
        return result
    return result + jnp.asarray(bias).reshape((1, -1) + (1,) * len(axes))


def _gemm(node: OnnxNode, inputs: Inputs) -> Value:
    left, right = (jnp.asarray(value) for value in inputs[:2])
    left = left.T if node.get("transA", 0) else left
    right = right.T if node.get("transB", 0) else right
    result = node.get("alpha", 1.0) * (left @ right)
    added = at(inputs, 2)
    if added is None:
        return result
    return jnp.add(*aligned(unified([result, node.get("beta", 1.0) * added])))


def _matrix_product(node: OnnxNode, inputs: Inputs) -> Value:
    left, right = unified(inputs)
    if min(left.ndim, right.ndim) > 1:
        left, right = aligned([left, right])
    return jnp.matmul(left, right)


LINEAR = MappingProxyType(
    {"Conv": _convolution, "Gemm": _gemm, "MatMul": _matrix_product}
)
