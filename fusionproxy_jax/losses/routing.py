"""Spatially adaptive routing of supervision over the foundation panel, Eq. 8."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, ScalarLike

# Stands for temperature 0: its inverse square, in the derivative, is within float32.
_COLDEST = 1e-15
# Beyond it an exponent is rounded by 0.03 and more; compiled code that rounds the same
# one in two ways, for the maximum and for its difference to it, soon overflows.
_LARGEST_EXPONENT = 1e6

Temperature = ScalarLike | Float[Array, " k"] | Float[Array, "#b #k #h #w"]


def informativeness(
    feature_variance: Float[Array, "b k h w"],
    mean_feature_variance: Float[Array, " k"],
    *,
    epsilon: ScalarLike = 1e-6,
) -> Float32[Array, "b k h w"]:
    """Variance over what is usual for the backbone, v~ of Eq. 8; around 1, >= 0.

    Large where a backbone reacts to the teachers' disagreement more than it usually
    does, whatever the scale of its features.

    Args:
        feature_variance: variance of features over teacher samples, Eq. 6, >= 0.
        mean_feature_variance: its mean over pixels and training images, one a backbone.
        epsilon: keeps a backbone that never varies from dividing by zero.
    """
    usual = mean_feature_variance.astype(jnp.float32)[None, :, None, None] + epsilon
    return feature_variance.astype(jnp.float32) / usual


def routing_weights(
    feature_variance: Float[Array, "b k h w"],
    mean_feature_variance: Float[Array, " k"],
    *,
    temperature: Temperature = 1.0,
    epsilon: ScalarLike = 1e-6,
) -> Float32[Array, "b k h w"]:
    """Weights of the k backbones at each pixel, Eq. 8; they sum to one over k.

    Softmax over backbones of informativeness / temperature. May be traced, and has
    finite gradients, in everything.

    Args:
        feature_variance: variance of features over teacher samples, Eq. 6, >= 0.
        mean_feature_variance: its mean over pixels and training images, one a backbone.
        temperature: >= 0; one for all, one a backbone [k], or one a place, where axes
            of [b, k, h, w] may be 1. 0 is the limit: a pixel goes to its most
            informative backbone, ties share it, and a backbone at 0 that varies at all
            beats those above 0. `math.inf` is uniform weighting, row (e) of Table 4.
        epsilon: keeps a backbone that never varies from dividing by zero.
    """
    scores = informativeness(feature_variance, mean_feature_variance, epsilon=epsilon)
    temperature = jnp.asarray(temperature, jnp.float32)
    if temperature.ndim < 4:
        temperature = temperature.reshape(1, -1, 1, 1)
    temperature = jnp.maximum(temperature, _COLDEST)
    exponents = jax.lax.stop_gradient(scores / temperature)
    highest = jnp.max(exponents, axis=1, keepdims=True)
    hard = highest > _LARGEST_EXPONENT
    first = (exponents == highest).astype(jnp.float32)
    one_hot = first / jnp.sum(first, axis=1, keepdims=True)
    # Divided anew by what is safe where the result is dropped: an infinite derivative
    # would come back as NaN.
    soft = jax.nn.softmax(scores / jnp.where(hard, jnp.inf, temperature), axis=1)
    return jnp.where(hard, one_hot, soft)


def routing_entropy(weights: Float[Array, "b k h w"]) -> Float32[Array, "b h w"]:
    """Entropy of the weights at each pixel in nats: 0 one-hot, log k uniform."""
    weights = weights.astype(jnp.float32)
    # The derivative of w log w is infinite at zero; such a backbone gets none.
    some = weights > 0.0
    logarithms = jnp.log(jnp.where(some, weights, 1.0))
    return -jnp.sum(weights * logarithms, axis=1)


def normalised_routing_entropy(
    weights: Float[Array, "b k h w"],
) -> Float32[Array, "b h w"]:
    """Entropy over that of uniform weights, in [0, 1]; 0 where k is 1."""
    return routing_entropy(weights) / max(math.log(weights.shape[1]), 1e-6)
