"""What the panel does with the features of its backbones, whatever their own grid."""

import jax
from jaxtyping import Array, Float


def resample(
    features: Float[Array, "b gh gw c"], grid: int
) -> Float[Array, "b grid grid c"]:
    """Features on the common grid of Eqs. 6, 8 and 10: bilinear, linear in `features`.

    Half-pixel centres, edges repeated, no antialiasing: on a coarser grid than its own
    a map is sampled, not averaged.
    """
    num_images, _, _, num_channels = features.shape
    shape = (num_images, grid, grid, num_channels)
    return jax.image.resize(features, shape, "bilinear", antialias=False)
