"""Growing feature maps; exporters pass their own forms of these two."""

import jax
from jaxtyping import Array, Float


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Bilinear x2, half-pixel centres, edge values repeated."""
    batch, height, width, channels = x.shape
    return jax.image.resize(
        x, (batch, 2 * height, 2 * width, channels), method="bilinear"
    )


def depth_to_space(
    x: Float[Array, "b h w c"], block: int = 2
) -> Float[Array, "b h2 w2 c2"]:
    """Unfolds groups of channels, one per offset, into `block` times the size.

    The `block**2` offsets lie row by row.
    """
    batch, height, width, channels = x.shape
    folded = x.reshape(batch, height, width, block, block, channels // block**2)
    return folded.transpose(0, 1, 3, 2, 4, 5).reshape(
        batch, block * height, block * width, channels // block**2
    )
