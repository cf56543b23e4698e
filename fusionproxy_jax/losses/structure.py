"""Structural consistency, Eq. 11: the one caller of `dm_pix.ssim`."""

from functools import partial

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32


def structure_loss(
    fused: Float[Array, "b h w c"],
    ensemble_mean: Float[Array, "b h w c"],
    *,
    window: int = 11,
) -> Float32[Array, " b"]:
    """One minus SSIM to the ensemble mean, Eq. 11; in [0, 2].

    Gaussian window of standard deviation 1.5 px, constants 0.01 and 0.03, range 1, over
    the positions where the window fits, mean over channels. Zero for equal images.

    Raises:
        ValueError: the image is smaller than the window.
    """
    height, width = fused.shape[1:3]
    if min(height, width) < window:
        # dm_pix would return a number all the same.
        raise ValueError(
            f"an SSIM window of {window} px does not fit a {height}x{width} image"
        )
    # dm_pix mixes integers and floats inside.
    with jax.numpy_dtype_promotion("standard"):
        similarity = dm_pix.ssim(
            fused.astype(jnp.float32),
            ensemble_mean.astype(jnp.float32),
            filter_fn=partial(_gaussian_filter, window=window),
        )
    return 1.0 - similarity


def _gaussian_filter(
    image: Float32[Array, "b h w c"], *, window: int, sigma_px: float = 1.5
) -> Float32[Array, "b y x c"]:
    """Gaussian average at every position where the window fits.

    One matrix product an axis: at the size of a training crop several times faster,
    backwards too, than the convolutions dm_pix or XLA would run.
    """
    height, width = image.shape[1:3]
    rows = _gaussian_matrix(height, window, sigma_px)
    columns = _gaussian_matrix(width, window, sigma_px)
    highest = jax.lax.Precision.HIGHEST
    filtered = jnp.einsum("yh,bhwc->bywc", rows, image, precision=highest)
    return jnp.einsum("xw,bywc->byxc", columns, filtered, precision=highest)


def _gaussian_matrix(length: int, window: int, sigma_px: float) -> np.ndarray:
    """Returns [length - window + 1, length]: row i averages pixels i to i + window."""
    offset = np.arange(window) - (window - 1) / 2
    taps = np.exp(-0.5 * np.square(offset / sigma_px))
    matrix = np.zeros((length - window + 1, length), np.float32)
    for start, row in enumerate(matrix):
        row[start : start + window] = taps / taps.sum()
    return matrix
