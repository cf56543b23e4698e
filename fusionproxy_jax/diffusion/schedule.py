"""Noise schedule of the diffusion chain: linear beta, respaced to fewer steps.

`signal` is abar, the cumulative product of 1 - beta: a state at that level is
sqrt(abar) x0 + sqrt(1 - abar) noise.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fusionproxy_jax.errors import FusionProxyError


class NoiseLevels(NamedTuple):
    """The levels a sampler visits, noisiest first; scanned along the first axis."""

    # Position in the training schedule: what a network is conditioned on.
    index: Int[Array, " k"]
    signal: Float[Array, " k"]
    # Level after the step; 1 after the last one, so the chain ends on its own estimate.
    next_signal: Float[Array, " k"]


def linear_signal(num_levels: int = 1000) -> np.ndarray:
    """Returns abar of betas rising linearly from 1e-4 to 2e-2 inclusive, float64."""
    return np.cumprod(1.0 - np.linspace(1e-4, 2e-2, num_levels))


def respaced_indices(num_steps: int, num_levels: int = 1000) -> np.ndarray:
    """Returns `num_steps` training indices, round(k (L-1) / (S-1)), ascending.

    First and last level are always kept; a single step starts from the last one.

    Raises:
      FusionProxyError: `num_steps` is not between 1 and `num_levels`.
    """
    if not 1 <= num_steps <= num_levels:
        raise FusionProxyError(
            f"num_steps is {num_steps}; it must be between 1 and {num_levels}"
        )
    if num_steps == 1:
        return np.array([num_levels - 1])
    stride = (num_levels - 1) / (num_steps - 1)
    return np.round(np.arange(num_steps) * stride).astype(int)


def noise_levels(num_steps: int, num_levels: int = 1000) -> NoiseLevels:
    """Returns the levels of a chain of `num_steps` steps, noisiest first."""
    indices = respaced_indices(num_steps, num_levels)
    signal = linear_signal(num_levels)[indices]
    next_signal = np.concatenate([[1.0], signal[:-1]])
    return NoiseLevels(
        index=jnp.asarray(indices[::-1].copy(), jnp.int32),
        signal=jnp.asarray(signal[::-1], jnp.float32),
        next_signal=jnp.asarray(next_signal[::-1], jnp.float32),
    )
