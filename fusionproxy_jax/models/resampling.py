"""Doubling the size of feature maps; exporters pass their own forms of these two."""

import jax
from jaxtyping import Array, Float


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Bilinear x2, half-pixel centres, edge values repeated."""
    batch, height, width, channels = x.shape
    return jax.image.resize(
        x, (batch, 2 * height, 2 * width, channels), method="bilinear"
    )


def depth_to_space(x: Float[Array, "b h w c4"]) -> Float[Array, "b h2 w2 c"]:
    """Unfolds four channel groups (row-major 2x2 offsets) into twice the size."""
    batch, height, width, channels = x.shape
    folded = x.reshape(batch, height, width, 2, 2, channels // 4)
    return folded.transpose(0, 1, 3, 2, 4, 5).reshape(
        batch, 2 * height, 2 * width, channels // 4
    )
