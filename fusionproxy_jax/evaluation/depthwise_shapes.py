"""The depthwise convolutions that a function holds, read from what JAX traces."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from fusionproxy_jax.evaluation.complexity import inner_jaxprs


class DepthwiseShape(NamedTuple):
    """One depthwise convolution: its input, its kernel's edge length, its stride."""

    batch: int
    height: int
    width: int
    channels: int
    kernel_size: int
    stride: int


def depthwise_shapes(
    function: Callable[..., Any], *arguments: Any
) -> Counter[DepthwiseShape]:
    """Returns how often each occurs as a grouped convolution; nothing is computed.

    Args:
        function: Of a network whose depthwise convolutions are in the grouped form.
        *arguments: Need only shape and dtype.
    """
    return _shapes(jax.make_jaxpr(function)(*arguments).jaxpr)


def _shapes(jaxpr: Any) -> Counter[DepthwiseShape]:
    found: Counter[DepthwiseShape] = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            shape = _shape(equation)
            if shape is not None:
                found[shape] += 1
        for inner in inner_jaxprs(equation):
            found += _shapes(inner)
    return found


def _shape(equation: Any) -> DepthwiseShape | None:
    """Returns the shape of a convolution if it is depthwise, one filter a channel."""
    image, kernel = (variable.aval.shape for variable in equation.invars)
    batch, feature, *places = equation.params["dimension_numbers"].lhs_spec
    filters, *_ = equation.params["dimension_numbers"].rhs_spec
    channels = image[feature]
    is_depthwise = equation.params["feature_group_count"] == channels > 1
    if not is_depthwise or kernel[filters] != channels:
        return None
    height, width = (image[axis] for axis in places)
    *_, size = equation.params["dimension_numbers"].rhs_spec
    return DepthwiseShape(
        batch=image[batch],
        height=height,
        width=width,
        channels=channels,
        kernel_size=kernel[size],
        stride=equation.params["window_strides"][-1],
    )
