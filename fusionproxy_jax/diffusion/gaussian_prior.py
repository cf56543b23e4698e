"""A prior that needs no training: images as a stationary Gaussian field.

Only the mean, the variance of image means and the radial power spectrum are kept, so a
prior of one data set serves any image size, and its denoiser is exact: the Wiener
filter. Images are luminance in [-1, 1].
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fusionproxy_jax.diffusion.ddim import Denoise
from fusionproxy_jax.errors import FusionProxyError

NUM_BINS = 128
# Radius, in cycles per pixel, of the corner of the frequency plane.
_MAX_RADIUS = float(np.sqrt(0.5))


class GaussianPrior(NamedTuple):
    """Statistics of luminance images in [-1, 1]; a pytree.

    `power` is the mean of |fft2|^2 / (h w) over rings of equal frequency, so that white
    noise of variance 1 has power 1; the zero frequency is kept apart because the
    variance of image means does not depend on the image size as the rest does.
    """

    mean: Float[Array, ""]
    mean_variance: Float[Array, ""]
    power: Float[Array, " bins"]

    @property
    def channels(self) -> int:
        """Channels of an image: luminance alone."""
        return 1

    @property
    def stride(self) -> int:
        """Image sides must be multiples of this: any will do."""
        return 1

    def denoiser(self, height: int, width: int) -> Denoise:
        """Returns denoise(noisy [n, h, w], index, signal) -> E[x0 | noisy]."""
        return make_denoiser(self, height=height, width=width)


def fit_gaussian_prior(images: Iterable[np.ndarray]) -> GaussianPrior:
    """Returns the prior of luminance images [h, w] in [0, 1], of any sizes.

    Raises:
      FusionProxyError: there is no image.
    """
    means, power, counts = [], np.zeros(NUM_BINS), np.zeros(NUM_BINS)
    for image in images:
        image = 2.0 * np.asarray(image, np.float64) - 1.0
        means.append(image.mean())
        spectrum = np.abs(np.fft.fft2(image)) ** 2 / image.size
        radius = _radius(*image.shape)
        rings = np.minimum(
            (radius / _MAX_RADIUS * NUM_BINS).astype(int), NUM_BINS - 1
        ).ravel()[1:]
        # Every image counts alike, whatever its size.
        weight = np.full(rings.size, 1.0 / image.size)
        power += np.bincount(rings, weight * spectrum.ravel()[1:], NUM_BINS)
        counts += np.bincount(rings, weight, NUM_BINS)
    if not means:
        raise FusionProxyError(
            "a Gaussian prior was asked for without images; give at least one pair"
        )
    seen = counts > 0
    filled = np.interp(
        np.arange(NUM_BINS),
        np.flatnonzero(seen),
        np.log(power[seen] / counts[seen] + 1e-12),
    )
    return GaussianPrior(
        mean=jnp.float32(np.mean(means)),
        mean_variance=jnp.float32(np.var(means)),
        power=jnp.asarray(np.exp(filled), jnp.float32),
    )


def power_spectrum(
    prior: GaussianPrior, height: int, width: int
) -> Float[Array, "height half_width"]:
    """Returns the prior's power on the frequency grid of `rfft2`."""
    centres = (np.arange(NUM_BINS) + 0.5) / NUM_BINS * _MAX_RADIUS
    radius = _radius(height, width)[:, : width // 2 + 1]
    power = jnp.exp(
        jnp.interp(jnp.asarray(radius, jnp.float32), centres, jnp.log(prior.power))
    )
    return power.at[0, 0].set(prior.mean_variance * (height * width))


def make_denoiser(prior: GaussianPrior, *, height: int, width: int):
    """Returns denoise(noisy [n, h, w], index, signal) -> E[x0 | noisy].

    mu + ifft(sqrt(a) P / (a P + 1 - a) fft(noisy - sqrt(a) mu)) with a = signal.
    """
    power = power_spectrum(prior, height, width)

    def denoise(noisy: Array, index: Array, signal: Array) -> Array:
        del index
        gain = jnp.sqrt(signal) * power / (signal * power + 1.0 - signal)
        spectrum = jnp.fft.rfft2(noisy - jnp.sqrt(signal) * prior.mean)
        return prior.mean + jnp.fft.irfft2(gain[None] * spectrum, s=(height, width))

    return denoise


def save_gaussian_prior(path: Path, prior: GaussianPrior) -> None:
    """Writes the prior as .npz.

    Raises:
      FusionProxyError: the file cannot be written.
    """
    from fusionproxy_jax.runtime.files import atomic_path

    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{k: np.asarray(v) for k, v in prior._asdict().items()})


def load_gaussian_prior(path: Path) -> GaussianPrior:
    """Reads a prior written by `save_gaussian_prior`.

    Raises:
      FusionProxyError: the file is missing or no Gaussian prior.
    """
    try:
        with np.load(path) as arrays:
            prior = {name: arrays[name] for name in GaussianPrior._fields}
    except (OSError, ValueError, KeyError) as error:
        raise FusionProxyError(
            f"{path} is no Gaussian prior; build it again with `fusionproxy teach`"
        ) from error
    return GaussianPrior(**{k: jnp.asarray(v, jnp.float32) for k, v in prior.items()})


def _radius(height: int, width: int) -> np.ndarray:
    """Returns the frequency of every fft2 coefficient, in cycles per pixel."""
    rows, columns = np.fft.fftfreq(height), np.fft.fftfreq(width)
    return np.hypot(rows[:, None], columns[None, :])
