"""DDIM: a chain from noise to an image, with a hook that may correct each estimate.

The hook is all a caller needs to condition the chain; what it enforces is its own
affair. Samples are batched along the first axis and never see each other: every sample
has its own key, and the hook's state carries one entry per sample.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from fusionproxy_jax.diffusion.schedule import NoiseLevels

State = TypeVar("State")

# (noisy state, training index, abar) -> expected clean image, in [-1, 1].
Denoise = Callable[[Array, Array, Array], Array]
# (estimate, state, one key per sample) -> (corrected estimate, state).
Rectify = Callable[[Array, State, Array], tuple[Array, State]]


def standard_normal(
    keys: Key[Array, " n"], shape: tuple[int, ...]
) -> Float[Array, "n ..."]:
    """Returns unit noise of `shape` per key; a sample's draw ignores its neighbours."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)


def no_rectification(
    estimate: Float[Array, "n ..."], state: State, keys: Key[Array, " n"]
) -> tuple[Float[Array, "n ..."], State]:
    """The hook that leaves the chain to the prior alone."""
    del keys
    return estimate, state


def sample(
    denoise: Denoise,
    rectify: Rectify,
    state: State,
    keys: Key[Array, " n"],
    levels: NoiseLevels,
    *,
    shape: tuple[int, ...],
    eta: float = 0.0,
    rederive_noise: bool = True,
) -> Float[Array, "n ..."]:
    """Runs the chain for every key and returns its last states.

    Those are the last corrected estimates where `levels` end at 1. Per level, with
    a = abar: x0 = clip(denoise(x), -1, 1); x0' = rectify(x0); the noise is derived
    again from x0', e = (x - sqrt(a) x0') / sqrt(1 - a); then
    x = sqrt(a') x0' + sqrt(1 - a' - s^2) e + s z with
    s = eta sqrt((1 - a') / (1 - a)) sqrt(1 - a / a'). x0' itself is not clipped.

    Args:
      denoise: prior, gives the expected clean image of a noisy one.
      rectify: hook, may move an estimate and carry a state along the chain.
      state: the hook's first state, any pytree.
      keys: one key per sample.
      levels: see `schedule.noise_levels`.
      shape: shape of one sample.
      eta: 0 is deterministic given the first noise, 1 is ancestral.
      rederive_noise: False takes e from denoise(x) as it is, neither clipped nor
        rectified: the network's own noise, where that is what it predicts.
    """
    first_keys, chain_keys = _split(keys)
    noisy = standard_normal(first_keys, shape)

    def step(carry, level):
        noisy, state, keys = carry
        index, signal, next_signal = level
        keys, hook_keys, noise_keys = _split(keys, 3)
        denoised = denoise(noisy, index, signal)
        estimate, state = rectify(jnp.clip(denoised, -1.0, 1.0), state, hook_keys)
        implied = estimate if rederive_noise else denoised
        noise = (noisy - jnp.sqrt(signal) * implied) / jnp.sqrt(1.0 - signal)
        deviation = (
            eta
            * jnp.sqrt((1.0 - next_signal) / (1.0 - signal))
            * jnp.sqrt(1.0 - signal / next_signal)
        )
        noisy = jnp.sqrt(next_signal) * estimate + noise * jnp.sqrt(
            jnp.maximum(1.0 - next_signal - deviation**2, 0.0)
        )
        if eta:
            noisy = noisy + deviation * standard_normal(noise_keys, shape)
        return (noisy, state, keys), None

    (noisy, _, _), _ = jax.lax.scan(step, (noisy, state, chain_keys), levels)
    return noisy


def _split(keys: Array, num: int = 2) -> tuple[Array, ...]:
    """Splits every sample's key into `num`."""
    split = jax.vmap(lambda key: jax.random.split(key, num))(keys)
    return tuple(split[:, i] for i in range(num))
