"""Resampling as JAX primitives that jax2onnx writes as single, size-free ONNX nodes.

`jax.image.resize` and a reshaping depth-to-space need sizes in numbers; these two keep
symbolic sizes. They can be traced, not run or differentiated: training uses the forms
of `models/resampling.py`.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import onnx_ir as ir
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax2onnx.plugins._ir_shapes import _ensure_value_metadata, _stamp_type_and_shape
from jax2onnx.plugins.plugin_system import PrimitiveLeafPlugin, register_primitive

_UPSAMPLE = Primitive("fusionproxy.upsample")
_DEPTH_TO_SPACE = Primitive("fusionproxy.depth_to_space")


def upsample(x: jax.Array) -> jax.Array:
    """Bilinear x2 of NHWC maps, half-pixel centres: one ONNX Resize."""
    return _UPSAMPLE.bind(x)


def depth_to_space(x: jax.Array, block: int = 2) -> jax.Array:
    """Unfolds channels into `block` times the size (NHWC): ONNX DepthToSpace."""
    return _DEPTH_TO_SPACE.bind(x, block=block)


@_UPSAMPLE.def_abstract_eval
def _(x: ShapedArray) -> ShapedArray:
    batch, height, width, channels = x.shape
    return ShapedArray((batch, 2 * height, 2 * width, channels), x.dtype)


@_DEPTH_TO_SPACE.def_abstract_eval
def _(x: ShapedArray, *, block: int) -> ShapedArray:
    batch, height, width, channels = x.shape
    return ShapedArray(
        (batch, block * height, block * width, channels // block**2), x.dtype
    )


def _lower_in_nchw(
    context: Any, equation: Any, build: Callable[[ir.Value], ir.Value]
) -> None:
    """Writes `build`, an NCHW operation, between two transposes.

    Both operators exist in ONNX for NCHW only; the transposes cancel with those of the
    neighbouring convolutions.
    """
    source, target = equation.invars[0], equation.outvars[0]
    x = context.get_value_for_var(source, name_hint=context.fresh_name("resampled"))

    def typed(value: ir.Value, shape: tuple) -> ir.Value:
        value.type = x.type
        _stamp_type_and_shape(value, shape)
        _ensure_value_metadata(context, value)
        return value

    def transpose(value: ir.Value, perm: list[int]) -> ir.Value:
        name = context.fresh_name("transposed")
        return context.builder.Transpose(value, _outputs=[name], perm=perm)

    def nchw(shape: tuple) -> tuple:
        return (shape[0], shape[3], shape[1], shape[2])

    folded = typed(transpose(x, [0, 3, 1, 2]), nchw(source.aval.shape))
    unfolded = typed(build(folded), nchw(target.aval.shape))
    context.bind_value_for_var(
        target, typed(transpose(unfolded, [0, 2, 3, 1]), target.aval.shape)
    )


def _register(primitive: Primitive, onnx_name: str) -> Callable[[type], type]:
    return register_primitive(
        jaxpr_primitive=primitive.name,
        jax_doc="",
        onnx=[{"component": onnx_name, "doc": ""}],
        since="0.17.1",
        context="primitives.fusionproxy",
        component=primitive.name,
        testcases=[],
    )


@_register(_UPSAMPLE, "Resize")
class _UpsamplePlugin(PrimitiveLeafPlugin):
    def lower(self, ctx: Any, eqn: Any) -> None:
        """Writes one Resize."""
        scales = ctx.builder.add_initializer_from_array(
            name=ctx.fresh_name("scales"), array=np.array([1, 1, 2, 2], np.float32)
        )
        _lower_in_nchw(
            ctx,
            eqn,
            lambda x: ctx.builder.Resize(
                x,
                None,
                scales,
                _outputs=[ctx.fresh_name("upsampled")],
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            ),
        )


@_register(_DEPTH_TO_SPACE, "DepthToSpace")
class _DepthToSpacePlugin(PrimitiveLeafPlugin):
    def lower(self, ctx: Any, eqn: Any) -> None:
        """Writes one DepthToSpace; DCR is the channel order of the Flax form."""
        _lower_in_nchw(
            ctx,
            eqn,
            lambda x: ctx.builder.DepthToSpace(
                x,
                _outputs=[ctx.fresh_name("unfolded")],
                blocksize=eqn.params["block"],
                mode="DCR",
            ),
        )
