"""Metrics of edges: SF, AG, Qabf.

Images are luma, float64 [h, w] in 0..255.
"""

from typing import NamedTuple

import numpy as np


def spatial_frequency(fused: np.ndarray) -> float:
    """SF: root of the mean squared horizontal plus vertical differences."""
    horizontal = np.mean(np.square(np.diff(fused, axis=1)))
    vertical = np.mean(np.square(np.diff(fused, axis=0)))
    return float(np.sqrt(horizontal + vertical))


def average_gradient(fused: np.ndarray) -> float:
    """AG: mean of sqrt((gx^2 + gy^2) / 2), central differences."""
    vertical, horizontal = np.gradient(fused)
    return float(np.mean(np.sqrt((horizontal**2 + vertical**2) / 2)))


def edge_preservation(
    fused: np.ndarray, visible: np.ndarray, infrared: np.ndarray
) -> float:
    """Qabf of Xydeas and Petrovic: share of the sources' edges kept in the fused image.

    Preservation of Sobel strength and orientation, averaged over both sources with
    their gradient magnitudes as weights; 0 when neither source has an edge.
    """
    fused_edges = _sobel(fused)
    kept = total = 0.0
    for source in (visible, infrared):
        edges = _sobel(source)
        kept += np.sum(_preservation(fused_edges, edges) * edges.strength)
        total += np.sum(edges.strength)
    return float(kept / total) if total > 0 else 0.0


class _Edges(NamedTuple):
    strength: np.ndarray
    orientation: np.ndarray


def _sobel(image: np.ndarray) -> _Edges:
    """Sobel gradients with a border of zeros."""
    padded = np.pad(image, 1)
    across = padded[:, :-2] - padded[:, 2:]
    horizontal = across[:-2] + 2 * across[1:-1] + across[2:]
    along = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    vertical = along[2:] - along[:-2]
    # arctan, not arctan2: opposite gradients are the same edge.
    upright = horizontal == 0
    slope = np.divide(vertical, horizontal, where=~upright, out=np.zeros_like(vertical))
    orientation = np.arctan(slope)
    orientation[upright] = np.pi / 2
    return _Edges(np.hypot(horizontal, vertical), orientation)


def _preservation(fused: _Edges, source: _Edges) -> np.ndarray:
    weaker = np.minimum(fused.strength, source.strength)
    stronger = np.maximum(fused.strength, source.strength)
    # The common evaluator takes the magnitude itself where both are equal; published
    # values contain this, so it stays.
    equal = weaker == stronger
    strength = np.divide(weaker, stronger, where=~equal, out=fused.strength.copy())
    orientation = 1 - np.abs(source.orientation - fused.orientation) * (2 / np.pi)
    return (
        0.9994
        / (1 + np.exp(-15 * (strength - 0.5)))
        * 0.9879
        / (1 + np.exp(-22 * (orientation - 0.8)))
    )
