"""Spatially adaptive routing of supervision over the foundation panel, Eq. 8."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, ScalarLike


def routing_weights(
    feature_variance: Float[Array, "b k h w"],
    mean_feature_variance: Float[Array, " k"],
    *,
    temperature: ScalarLike = 1.0,
    epsilon: ScalarLike = 1e-6,
) -> Float32[Array, "b k h w"]:
    """Weights of the k backbones at each pixel, Eq. 8; they sum to one over k.

    Softmax over backbones of variance / (its mean over the training set) / temperature:
    a backbone counts where it reacts to the teachers' disagreement more than it usually
    does, whatever the scale of its features.

    Args:
        feature_variance: variance of features over teacher samples, Eq. 6, >= 0.
        mean_feature_variance: its mean over pixels and training images, one a backbone.
        temperature: > 0. Towards 0 each pixel goes to one backbone; `math.inf` is
            uniform weighting, row (e) of Table 4.
        epsilon: keeps a backbone that never varies from dividing by zero.
    """
    usual = mean_feature_variance.astype(jnp.float32)[None, :, None, None] + epsilon
    informativeness = feature_variance.astype(jnp.float32) / usual
    return jax.nn.softmax(informativeness / temperature, axis=1)
