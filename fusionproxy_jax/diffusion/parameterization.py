"""What a denoiser's output means: noise, clean image, or velocity.

With a = abar, a state is x = sqrt(a) clean + sqrt(1 - a) noise, and the velocity is
v = sqrt(a) noise - sqrt(1 - a) clean (Salimans & Ho 2022). `signal` is a: one number,
one per sample, or anything that broadcasts to the images.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from fusionproxy_jax.config.networks import Prediction

Images = Float[Array, "*images"]


def to_clean(
    output: Images, noisy: Images, signal: Float[Array, "..."], prediction: Prediction
) -> Images:
    """Returns the clean estimate that a network's output stands for.

    noise: (x - sqrt(1 - a) output) / sqrt(a); clean: output;
    velocity: sqrt(a) x - sqrt(1 - a) output.
    """
    amount, rest = _roots(signal, noisy)
    match prediction:
        case "noise":
            return (noisy - rest * output) / amount
        case "clean":
            return output
        case "velocity":
            return amount * noisy - rest * output


def to_target(
    clean: Images, noise: Images, signal: Float[Array, "..."], prediction: Prediction
) -> Images:
    """Returns what a network should output: the noise, the clean image, or v."""
    amount, rest = _roots(signal, clean)
    match prediction:
        case "noise":
            return noise
        case "clean":
            return clean
        case "velocity":
            return amount * noise - rest * clean


def min_snr_weight(
    signal: Float[Array, "..."], prediction: Prediction, gamma: float = 5.0
) -> Float[Array, "..."]:
    """Min-SNR weight of a squared error in the output's own terms (Hang et al. 2023).

    With snr = a / (1 - a) and m = min(snr, gamma): clean m, noise m / snr, velocity
    m / (snr + 1). All three weigh the same error of the clean image alike.
    """
    match prediction:
        # m / snr and m / (snr + 1) without the pole of snr at a = 1.
        case "noise":
            return jnp.minimum(1.0, gamma * (1.0 - signal) / signal)
        case "clean":
            return jnp.minimum(signal / (1.0 - signal), gamma)
        case "velocity":
            return jnp.minimum(signal, gamma * (1.0 - signal))


def _roots(signal: Array, images: Array) -> tuple[Array, Array]:
    """Returns sqrt(a) and sqrt(1 - a), shaped to multiply the images."""
    if signal.ndim == 1:
        signal = signal.reshape(-1, *(1,) * (images.ndim - 1))
    return jnp.sqrt(signal), jnp.sqrt(1.0 - signal)
