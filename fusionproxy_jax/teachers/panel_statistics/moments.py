"""Moments of a backbone's channels, and the scale that follows from them.

The scale of a channel is its standard deviation over all teacher samples, images and
positions of the backbone's own grid. Sums are taken in float64: that of squares and
the squared mean may agree in many digits.

A channel that hardly varies beside the others of its backbone is silent: its scale is
inf, so that it is 0 in targets, variances and the loss (means over channels still count
it). With only a smallest scale of 1e-6 for all, what little such a channel does on
other images would be divided by next to nothing, squared, and be the whole gradient.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path

SMALLEST_SCALE = 1e-6
# Of the median scale of the backbone's channels; those below are silent.
_SILENT_SHARE = 1e-3


@dataclass(frozen=True, eq=False)
class Moments:
    """Number of values per channel, their sums [c] and sums of squares [c], float64."""

    count: int
    sums: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """Returns those of feature maps [s, gh, gw, c]."""
        # One map at a time: float64 of all of them would take much memory.
        parts = []
        for one in features:
            values = one.reshape(-1, one.shape[-1]).astype(np.float64)
            parts.append(
                cls(len(values), values.sum(axis=0), np.square(values).sum(axis=0))
            )
        return cls.total(parts)

    @classmethod
    def total(cls, parts: Iterable["Moments"]) -> "Moments":
        """Returns the moments of all values of one part or more together."""
        parts = list(parts)
        return cls(
            sum(part.count for part in parts),
            np.sum([part.sums for part in parts], axis=0),
            np.sum([part.squares for part in parts], axis=0),
        )

    @property
    def scale(self) -> np.ndarray:
        """Standard deviation of every channel, float32 [c], at least 1e-6.

        Inf for silent channels.
        """
        variance = self.squares / self.count - np.square(self.sums / self.count)
        # Rounding may leave that of a constant channel just below zero.
        deviation = np.sqrt(np.maximum(variance, 0.0))
        scale = np.maximum(deviation, SMALLEST_SCALE)
        silent = scale < _SILENT_SHARE * np.median(scale)
        return np.where(silent, np.inf, scale).astype(np.float32)

    def write(self, path: Path) -> None:
        """Writes an .npz file whole.

        Raises:
          FusionProxyError: the file cannot be written.
        """
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, count=self.count, sums=self.sums, squares=self.squares)

    @classmethod
    def read(cls, path: Path) -> "Moments":
        """Reads a file written by `write`.

        Raises:
          FusionProxyError: the file is damaged.
        """
        try:
            with open(path, "rb") as file, np.load(file) as arrays:
                return cls(int(arrays["count"]), arrays["sums"], arrays["squares"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise FusionProxyError(
                f"{path} is damaged; delete it and run the same `fusionproxy teach` "
                "again to make it anew"
            ) from error
