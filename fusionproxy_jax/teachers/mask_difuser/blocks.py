"""Blocks of Mask-DiFuser's UNet: residual with attention, half size, twice the size.

Maps are [b, h, w, c], a view's tokens [b, t, c]. Submodules carry the checkpoint's
names, with `_` for the dot in front of a number.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from fusionproxy_jax.teachers.mask_difuser.attention import (
    CrossAttention,
    SelfAttention,
)
from fusionproxy_jax.teachers.mask_difuser.layers import conv, norm_silu


class PairConv(nn.Module):
    """The 3x3 convolution of [x, y, x + y], without forming x + y.

    The sum's weights are added to those of x and y, which takes a third of the
    arithmetic away.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Returns a map of the shape of `x`."""
        width = x.shape[-1]
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (3, 3, 3 * width, width)
        )
        bias = self.param("bias", nn.initializers.zeros, (width,))
        of_x, of_y, of_sum = jnp.split(kernel, 3, axis=2)
        result = jax.lax.conv_general_dilated(
            jnp.concatenate([x, y], axis=-1).astype(self.dtype),
            jnp.concatenate([of_x + of_sum, of_y + of_sum], axis=2).astype(self.dtype),
            (1, 1),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return result + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class ResidualBlock(nn.Module):
    """Two convolutions with the time between them, then the attentions asked for."""

    width: int
    num_groups: int
    self_attention: bool
    cross_attention: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.Array, tokens_a: jax.Array, tokens_b: jax.Array
    ) -> jax.Array:
        """Returns [b, h, w, width]; `time` is [b, t]."""
        groups, dtype = self.num_groups, self.dtype
        y = norm_silu(x, groups, dtype=dtype, name="block1_0")
        y = conv(self.width, dtype=dtype, name="block1_2")(y)
        time = nn.Dense(self.width, dtype=dtype, name="temb_proj_1")(nn.silu(time))
        y = y + time[:, None, None, :]
        y = norm_silu(y, groups, dtype=dtype, name="block2_0")
        y = conv(self.width, dtype=dtype, name="block2_3")(y)
        if x.shape[-1] != self.width:
            x = conv(self.width, 1, dtype=dtype, name="shortcut")(x)
        x = x + y
        if self.self_attention:
            x = SelfAttention(groups, dtype, name="attn")(x)
        if not self.cross_attention:
            return x
        pair = CrossAttention(groups, dtype, name="cross_attention")(
            x, tokens_a, tokens_b
        )
        y = PairConv(dtype, name="conbine_0")(*pair)
        return x + norm_silu(y, groups, dtype=dtype, name="conbine_1")


class Downsample(nn.Module):
    """Half the size by a convolution of stride 2."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [b, ceil(h/2), ceil(w/2), c]."""
        return conv(x.shape[-1], stride=2, dtype=self.dtype, name="main")(x)


class Upsample(nn.Module):
    """Twice the size, bilinear, then a convolution."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [b, 2h, 2w, c]."""
        x = double(double(x, axis=1), axis=2)
        return conv(x.shape[-1], dtype=self.dtype, name="main")(x)


def double(x: jax.Array, *, axis: int) -> jax.Array:
    """Doubles an axis linearly: half-pixel centres, edge values repeated."""
    size = x.shape[axis]
    previous = jnp.concatenate(
        [
            jax.lax.slice_in_dim(x, 0, 1, axis=axis),
            jax.lax.slice_in_dim(x, 0, size - 1, axis=axis),
        ],
        axis,
    )
    following = jnp.concatenate(
        [
            jax.lax.slice_in_dim(x, 1, size, axis=axis),
            jax.lax.slice_in_dim(x, size - 1, size, axis=axis),
        ],
        axis,
    )
    near = 0.75 * x
    pairs = jnp.stack([0.25 * previous + near, near + 0.25 * following], axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
