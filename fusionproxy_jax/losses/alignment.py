"""Multi-foundation alignment, Eq. 10.

Features are already resampled to one grid and divided by their channel scale; the k
backbones come in one order everywhere, with as many channels as each one has.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32


class FeatureStatistics(NamedTuple):
    """What the panel saw in the teacher samples of a batch, backbones in order k."""

    target: tuple[Float[Array, "b h w _"], ...]
    """Mean of scaled features over teacher samples, Eq. 9, one map a backbone."""
    variance: Float[Array, "b k h w"]
    """Variance of features over teacher samples, Eq. 6."""
    mean_variance: Float[Array, " k"]
    """Mean of `variance` over pixels and training images, one value a backbone."""


def alignment_loss(
    features: tuple[Float[Array, "b h w _"], ...],
    target: tuple[Float[Array, "b h w _"], ...],
    weights: Float[Array, "b k h w"],
) -> Float32[Array, " b"]:
    """Routed squared feature distance, Eq. 10: mean_p sum_k W_k |Phi_k - target_k|^2.

    The squared norm is the mean over a backbone's channels, not the sum: features have
    unit variance per channel, so a sum would grow with the width of the backbone.

    Args:
        features: scaled features of the fused image, one map a backbone.
        target: mean scaled features of the teacher samples, Eq. 9.
        weights: routing weights, Eq. 8.

    Raises:
        ValueError: the three do not name the same number of backbones.
    """
    if not len(features) == len(target) == weights.shape[1]:
        raise ValueError(
            f"features of {len(features)}, targets of {len(target)} and weights of "
            f"{weights.shape[1]} backbones; all three need the same backbones"
        )
    distances = [
        jnp.mean(jnp.square(_float32(ours) - _float32(theirs)), axis=-1)
        for ours, theirs in zip(features, target, strict=True)
    ]
    routed = _float32(weights) * jnp.stack(distances, axis=1)
    return jnp.mean(jnp.sum(routed, axis=1), axis=(1, 2))


def _float32(array: Array) -> Array:
    return array.astype(jnp.float32)
