"""Runs a student on images of any size: edge padding to its stride, crop, clip."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import PyTree

from fusionproxy_jax.types import Image, Infrared


def fuse_any_size(
    module: nn.Module, params: PyTree, visible: Image, infrared: Infrared
) -> Image:
    """Returns the fused image of the pair's own size, clipped to [0, 1]."""
    height, width = visible.shape[1:3]
    pad = (
        (0, 0),
        (0, -height % module.stride),
        (0, -width % module.stride),
        (0, 0),
    )
    fused = module.apply(
        {"params": params},
        jnp.pad(visible, pad, mode="edge"),
        jnp.pad(infrared, pad, mode="edge"),
    )
    return jnp.clip(fused[:, :height, :width], 0.0, 1.0)
