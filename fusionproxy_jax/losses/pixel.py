"""Uncertainty-weighted pixel supervision, Eq. 7.

Images are float in [0, 1], channels last; any float type, computed in float32.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, ScalarLike


def pixel_weights(
    ensemble_variance: Float[Array, "b h w"], *, epsilon: ScalarLike = 1e-3
) -> Float32[Array, "b h w"]:
    """Inverse-variance weights that sum to one over each image, Eq. 7.

    `epsilon` is in squared [0, 1] units and bounds how much one pixel can outweigh
    another: by 1 + variance / epsilon. A large one gives every pixel the same weight.
    """
    precision = 1.0 / (ensemble_variance.astype(jnp.float32) + epsilon)
    return precision / jnp.sum(precision, axis=(1, 2), keepdims=True)


def pixel_loss(
    fused: Float[Array, "b h w c"],
    ensemble_mean: Float[Array, "b h w c"],
    ensemble_variance: Float[Array, "b h w"],
    *,
    epsilon: ScalarLike = 1e-3,
) -> Float32[Array, " b"]:
    """Weighted L1 distance to the ensemble mean, Eq. 7: sum_p w(p) |fused - mean|_p.

    The L1 norm is the mean over channels, so the value is an average absolute error in
    [0, 1] units; the paper's literal sum is this times the number of channels. Constant
    variance gives the plain mean absolute error.
    """
    difference = fused.astype(jnp.float32) - ensemble_mean.astype(jnp.float32)
    distance = jnp.mean(jnp.abs(difference), axis=-1)
    weights = pixel_weights(ensemble_variance, epsilon=epsilon)
    return jnp.sum(weights * distance, axis=(1, 2))
