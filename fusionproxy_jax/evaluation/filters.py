"""Separable filters on NumPy images, by slices."""

import numpy as np


def gaussian_taps(size: int, sigma_px: float) -> np.ndarray:
    """Returns `size` samples of a Gaussian that sum to one."""
    offset = np.arange(size) - (size - 1) / 2
    taps = np.exp(-0.5 * np.square(offset / sigma_px))
    return taps / taps.sum()


def filter_valid(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filters both axes of [h, w] where the window fits; `taps` odd and symmetric."""
    return _filter_rows(_filter_rows(image, taps).T, taps).T


def filter_same(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filters both axes of [h, w], mirrored about its edge pixels to keep the size."""
    return filter_valid(np.pad(image, len(taps) // 2, mode="reflect"), taps)


def _filter_rows(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filters along the first axis, adding the two rows of equal weight first."""
    last = len(taps) - 1
    length = len(image) - last
    middle = last // 2
    filtered = taps[middle] * image[middle : middle + length]
    pair = np.empty_like(filtered)
    for index in range(middle):
        np.add(
            image[index : index + length],
            image[last - index : last - index + length],
            out=pair,
        )
        pair *= taps[index]
        filtered += pair
    return filtered
