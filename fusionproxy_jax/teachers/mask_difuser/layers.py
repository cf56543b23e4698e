"""Convolution and norm as PyTorch has them: Flax's defaults differ."""

import math

import jax
from flax import linen as nn
from jax.typing import DTypeLike


def conv(
    width: int,
    side: int = 3,
    *,
    stride: int = 1,
    dtype: DTypeLike,
    name: str | None,
    **options,
) -> nn.Conv:
    """Returns a convolution padded alike on all sides, as PyTorch does."""
    pad = side // 2
    return nn.Conv(
        width,
        (side, side),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        dtype=dtype,
        name=name,
        **options,
    )


def group_norm(
    width: int, num_groups: int, *, dtype: DTypeLike, name: str
) -> nn.GroupNorm:
    """Returns a group norm of maps of `width`, statistics in float32.

    A width that `num_groups` does not divide has their greatest common divisor.
    """
    return nn.GroupNorm(
        math.gcd(width, num_groups),
        epsilon=1e-5,
        dtype=dtype,
        use_fast_variance=False,
        name=name,
    )


def norm_silu(
    x: jax.Array, num_groups: int, *, dtype: DTypeLike, name: str
) -> jax.Array:
    """Returns SiLU of the group norm of `x`, what stands before most convolutions."""
    return nn.silu(group_norm(x.shape[-1], num_groups, dtype=dtype, name=name)(x))
