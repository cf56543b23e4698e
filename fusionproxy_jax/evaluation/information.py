"""Metrics of grey-value statistics: EN, SD, MI, SCD.

Images are luma, float64 [h, w] with whole values in 0..255.
"""

import numpy as np

LEVELS = 256


def entropy(fused: np.ndarray) -> float:
    """EN: Shannon entropy of the grey-value histogram, in bits."""
    return float(_entropy(_histogram(fused)) / np.log(2))


def standard_deviation(fused: np.ndarray) -> float:
    """SD: population standard deviation, in grey levels."""
    return float(np.std(fused))


def mutual_information(fused: np.ndarray, source: np.ndarray) -> float:
    """MI of one source: H(F) + H(S) - H(F, S) of the histograms, in nats."""
    joint = _histogram(LEVELS * fused + source)
    return _entropy(_histogram(fused)) + _entropy(_histogram(source)) - _entropy(joint)


def difference_correlation(
    fused: np.ndarray, visible: np.ndarray, infrared: np.ndarray
) -> float:
    """SCD: corr(V, F - I) + corr(I, F - V), Pearson; in [-2, 2].

    A constant image correlates with nothing: 0.
    """
    return _correlation(visible, fused - infrared) + _correlation(
        infrared, fused - visible
    )


def _histogram(levels: np.ndarray) -> np.ndarray:
    """Returns the share of each whole value that occurs."""
    counts = np.bincount(levels.astype(np.int32).ravel())
    return counts[counts > 0] / levels.size


def _entropy(shares: np.ndarray) -> float:
    return float(-np.sum(shares * np.log(shares)))


def _correlation(image: np.ndarray, other: np.ndarray) -> float:
    image = image - image.mean()
    other = other - other.mean()
    scale = np.sqrt(np.sum(image * image) * np.sum(other * other))
    return float(np.sum(image * other) / scale) if scale > 0 else 0.0
