"""Training a denoiser: a random level, the noise that belongs to it, a weighted error.

States are x = sqrt(a) clean + sqrt(1 - a) noise with a = abar of the linear schedule.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from fusionproxy_jax.diffusion.schedule import linear_signal

NUM_LEVELS = 1000


class NoisyImages(NamedTuple):
    """Images at random levels of the training schedule."""

    noisy: Float[Array, "b h w c"]
    noise: Float[Array, "b h w c"]
    index: Int[Array, " b"]
    signal: Float[Array, " b"]


def add_noise(clean: Float[Array, "b h w c"], keys: Key[Array, " b"]) -> NoisyImages:
    """Returns every image at its own level, drawn uniformly from the schedule."""

    def one(clean: Array, key: Array) -> tuple[Array, Array, Array, Array]:
        level_key, noise_key = jax.random.split(key)
        index = jax.random.randint(level_key, (), 0, NUM_LEVELS)
        signal = jnp.asarray(linear_signal(NUM_LEVELS), jnp.float32)[index]
        noise = jax.random.normal(noise_key, clean.shape, jnp.float32)
        noisy = jnp.sqrt(signal) * clean + jnp.sqrt(1.0 - signal) * noise
        return noisy, noise, index, signal

    return NoisyImages(*jax.vmap(one)(clean, keys))


def mean_squared_error(
    prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
    """Returns the mean over pixels and channels of every image's squared error."""
    return jnp.mean(jnp.square(prediction - target), axis=(1, 2, 3))
