"""Backbones of one layer, for panels that cost nothing, and their NumPy restatement."""

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.panel.backbone import Backbone


def _kernel(stride, channels, seed):
    shape = (stride, stride, 3, channels)
    kernel = np.random.default_rng(seed).normal(size=shape) / (4 * stride)
    return kernel.astype(np.float32)


def tiny_backbone(name="tiny", *, stride=4, channels=3, seed=0, fingerprint="f0"):
    """A strided convolution of patches that do not overlap, and a tanh."""

    def apply(params, images):
        found = jax.lax.conv_general_dilated(
            images,
            params["kernel"],
            window_strides=(stride, stride),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )
        return 10.0 * jnp.tanh(found)

    return Backbone(
        name, fingerprint, {"kernel": _kernel(stride, channels, seed)}, apply
    )


def tiny_features(samples, *, stride=4, channels=3, seed=0):
    """Float64 features of samples uint8 [s, h, w, 3]."""
    num, height, width, _ = samples.shape
    grid = height // stride, width // stride
    patches = (samples / 255)[:, : grid[0] * stride, : grid[1] * stride]
    patches = patches.reshape(num, grid[0], stride, grid[1], stride, 3)
    kernel = _kernel(stride, channels, seed).astype(np.float64)
    return 10 * np.tanh(np.einsum("nyhxwc,hwck->nyxk", patches, kernel))


def bilinear(maps, grid):
    """Samples float maps [s, h, w, c] at the centres of grid x grid cells."""
    for axis in (1, 2):
        size = maps.shape[axis]
        at = np.clip((np.arange(grid) + 0.5) * size / grid - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, size - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = grid
        share = (at - low).reshape(shape)
        maps = maps.take(low, axis) * (1 - share) + maps.take(high, axis) * share
    return maps
