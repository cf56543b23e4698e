"""One frozen backbone over the teacher samples of a tile: Eqs. 6 and 9."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.panel.common_grid import resample

# As many as the paper's ensemble has samples.
_IMAGES_PER_BATCH = 8


class TileFeatures(NamedTuple):
    """What is kept of a backbone's features of one tile's samples."""

    target: np.ndarray
    """Mean of scaled features on their own grid, float16 [gh, gw, c], Eq. 9; or those
    of the mean sample."""
    deviation: np.ndarray
    """Root of Eq. 6's variance on the common grid, float16 [g, g]."""
    variance_sum: float
    """Sum of that variance over the grid, before it was rounded."""


class Extractor:
    """A backbone on the device, compiled once for samples of one size."""

    def __init__(
        self, backbone: Backbone, *, images_per_batch: int = _IMAGES_PER_BATCH
    ) -> None:
        """Takes the backbone and the most images it sees at once."""
        self._images_per_batch = images_per_batch
        self._params = jax.tree.map(jnp.asarray, backbone.params)

        def features(params, seen: jax.Array) -> jax.Array:
            return backbone.apply(params, seen.astype(jnp.float32) / 255.0)

        self._features = jax.jit(features)

    def features(self, samples: np.ndarray) -> jax.Array:
        """Returns features [s, gh, gw, c] of samples uint8 RGB [s, h, w, 3]."""
        size = min(self._images_per_batch, len(samples))
        maps = []
        for start in range(0, len(samples), size):
            batch = samples[start : start + size]
            # Filled up, so that everything is compiled once.
            filling = np.repeat(batch[-1:], size - len(batch), axis=0)
            found = self._features(self._params, np.concatenate([batch, filling]))
            maps.append(found[: len(batch)])
        return maps[0] if len(maps) == 1 else jnp.concatenate(maps)

    def statistics(
        self,
        samples: np.ndarray,
        scale: np.ndarray,
        *,
        grid: int,
        target: str = "mean_of_features",
    ) -> TileFeatures:
        """Returns the statistics of a tile's samples.

        Args:
          samples: uint8 RGB [s, h, w, 3].
          scale: what every channel is divided by, float32 [c]; inf for silent ones.
          grid: side of the common grid.
          target: `mean_of_features`, or `features_of_mean` for those of the samples'
            mean, which is not rounded.
        """
        found = _statistics(self.features(samples), scale, grid=grid)
        mean, deviation, variance = jax.device_get(found)
        if target == "features_of_mean":
            mean = self._features_of_mean(samples, scale)
        return TileFeatures(mean, deviation, float(variance.sum(dtype=np.float64)))

    def _features_of_mean(self, samples: np.ndarray, scale: np.ndarray) -> np.ndarray:
        image = samples.mean(axis=0, keepdims=True, dtype=np.float32)
        (found,) = self._features(self._params, image)
        return jax.device_get((found / scale.reshape(1, 1, -1)).astype(jnp.float16))


@functools.partial(jax.jit, static_argnames="grid")
def _statistics(
    features: jax.Array, scale: jax.Array, *, grid: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns target, deviation and variance of features [s, gh, gw, c]."""
    scaled = features / scale.reshape(1, 1, 1, -1)
    # Resampling is linear, squaring is not: samples are resampled first.
    variance = jnp.mean(jnp.var(resample(scaled, grid), axis=0), axis=-1)
    return (
        jnp.mean(scaled, axis=0).astype(jnp.float16),
        jnp.sqrt(variance).astype(jnp.float16),
        variance,
    )
