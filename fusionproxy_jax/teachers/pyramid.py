"""Laplacian pyramid of Burt and Adelson, batched and jittable.

Images are [n, h, w] with h and w multiples of 2**num_detail_bands; `merge(split(x))` is
x. The filters are the binomial (1, 4, 6, 4, 1) / 16, written as sums of slices, which
XLA fuses; borders repeat the edge.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def halve(images: jax.Array) -> jax.Array:
    """Returns images [n, h, w] low-passed and halved."""
    for axis in (1, 2):
        size = images.shape[axis]
        width = [(0, 0)] * 3
        width[axis] = (2, 2)
        padded = jnp.pad(images, width, mode="edge")
        taps = [
            jax.lax.slice_in_dim(padded, start, start + size - 1, 2, axis)
            for start in range(5)
        ]
        images = (taps[0] + taps[4] + 4 * (taps[1] + taps[3]) + 6 * taps[2]) / 16
    return images


def double(images: jax.Array) -> jax.Array:
    """Returns images [n, h, w] interpolated to twice the size; dual of `halve`."""
    for axis in (1, 2):
        size = images.shape[axis]
        width = [(0, 0)] * 3
        width[axis] = (1, 1)
        padded = jnp.pad(images, width, mode="edge")
        before, here, after = (
            jax.lax.slice_in_dim(padded, start, start + size, 1, axis)
            for start in range(3)
        )
        pair = jnp.stack(
            [(before + 6 * here + after) / 8, (here + after) / 2], axis + 1
        )
        images = pair.reshape(*images.shape[:axis], 2 * size, *images.shape[axis + 1 :])
    return images


def split(images: jax.Array, num_detail_bands: int) -> tuple[jax.Array, ...]:
    """Returns the detail bands, finest first, and the base band last."""
    bands = []
    for _ in range(num_detail_bands):
        coarse = halve(images)
        bands.append(images - double(coarse))
        images = coarse
    return (*bands, images)


def merge(bands: Sequence[jax.Array]) -> jax.Array:
    """Returns the images whose bands these are."""
    images = bands[-1]
    for detail in bands[-2::-1]:
        images = detail + double(images)
    return images
