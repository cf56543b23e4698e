"""From what a decoder predicts to the fused image: what is added to the visible image.

Teachers keep the visible image's Cb and Cr, which are differences to luminance Y, so
what they change is one number per pixel, added to R, G and B alike. `luma` and `blend`
predict that number: a third of `rgb`'s channels at full size.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from fusionproxy_jax.types import Image, Infrared

Output = Literal["rgb", "luma", "blend"]

NUM_MAPS: Mapping[Output, int] = MappingProxyType({"rgb": 3, "luma": 1, "blend": 2})
"""Channels that the decoder predicts per pixel."""

_LUMA = (0.299, 0.587, 0.114)


def compose(
    output: Output,
    maps: Float[Array, "b h w _"],
    visible: Image,
    infrared: Infrared,
) -> Image:
    """Returns the fused image, float32, not clipped; `maps` of zeros give `visible`.

    - `rgb`: V + D with a residual per colour;
    - `luma`: V + d with one residual for all three;
    - `blend`: V + w (I - Y(V)) + d. The weight moves luminance from the visible towards
      the infrared image, so that its detail passes at full size however coarse the
      features are that w comes from.
    """
    visible, maps = visible.astype(jnp.float32), maps.astype(jnp.float32)
    if output != "blend":
        return visible + maps
    luma = visible @ jnp.asarray(_LUMA).reshape(3, 1)
    weight, residual = maps[..., :1], maps[..., 1:]
    return visible + (weight * (infrared.astype(jnp.float32) - luma) + residual)
