"""What a network is told about the noise: sines of the training index."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

MAX_PERIOD = 10_000.0


def timestep_embedding(index: Int[Array, " b"], width: int) -> Float[Array, "b width"]:
    """Returns [cos(t f), sin(t f)] with f_j = 10000^(-j / half), j < half = width / 2.

    `index` is the level of the training schedule, not of a respaced chain. Cosines come
    first, as in guided diffusion; `width` is even.
    """
    half = width // 2
    frequencies = jnp.exp(
        -math.log(MAX_PERIOD) / half * jnp.arange(half, dtype=jnp.float32)
    )
    angles = index.astype(jnp.float32)[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
