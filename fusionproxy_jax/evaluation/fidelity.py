"""Metrics of local statistics under a sliding window: VIF, SSIM.

Images are luma, float64 [h, w] in 0..255.
"""

from typing import NamedTuple

import numpy as np

from fusionproxy_jax.evaluation.filters import filter_valid, gaussian_taps

# Gaussian windows of VIF's four scales; sigma is a fifth of the size.
VIF_WINDOWS = (17, 9, 5, 3)
VIF_NOISE_VARIANCE = 2.0
VIF_EPSILON = 1e-10
SSIM_WINDOW = 7
# Below this side the coarsest window of VIF does not fit.
SMALLEST_SIDE = 41


def visual_information_fidelity(
    fused: np.ndarray, visible: np.ndarray, infrared: np.ndarray
) -> float:
    """VIF: pixel-domain multi-scale VIF of F against V plus that against I.

    Above 1 for one source where the fused image has more contrast. A source without
    any contrast carries no information to keep and counts 0.
    """
    images = [fused, visible, infrared]
    kept, total = np.zeros(2), np.zeros(2)
    for scale, size in enumerate(VIF_WINDOWS):
        taps = gaussian_taps(size, size / 5)
        if scale > 0:
            images = [filter_valid(image, taps)[::2, ::2] for image in images]
        ours, *sources = (_moments(image, taps) for image in images)
        for index, source in enumerate(sources):
            covariance = _covariance(ours, source, taps)
            kept[index] += np.sum(_information_kept(ours, source, covariance))
            total[index] += np.sum(np.log10(1 + source.variance / VIF_NOISE_VARIANCE))
    return float(np.sum(np.divide(kept, total, where=total > 0, out=np.zeros(2))))


def structural_similarity(
    fused: np.ndarray, visible: np.ndarray, infrared: np.ndarray
) -> float:
    """SSIM: SSIM(F, V) + SSIM(F, I), 7x7 uniform window, range 255, interior mean."""
    taps = np.full(SSIM_WINDOW, 1 / SSIM_WINDOW)
    # Sample covariance, over n - 1 of the n pixels.
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ours = _moments(fused, taps)
    similarity = 0.0
    for image in (visible, infrared):
        source = _moments(image, taps)
        covariance = _covariance(ours, source, taps)
        luminance = (2 * ours.mean * source.mean + c1) / (
            ours.mean**2 + source.mean**2 + c1
        )
        structure = (2 * unbiased * covariance + c2) / (
            unbiased * (ours.variance + source.variance) + c2
        )
        similarity += np.mean(luminance * structure)
    return float(similarity)


class _Moments(NamedTuple):
    image: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def _moments(image: np.ndarray, taps: np.ndarray) -> _Moments:
    mean = filter_valid(image, taps)
    variance = filter_valid(image * image, taps) - mean * mean
    return _Moments(image, mean, np.maximum(variance, 0))


def _covariance(ours: _Moments, source: _Moments, taps: np.ndarray) -> np.ndarray:
    return filter_valid(ours.image * source.image, taps) - ours.mean * source.mean


def _information_kept(
    ours: _Moments, source: _Moments, covariance: np.ndarray
) -> np.ndarray:
    """log10(1 + gain^2 source variance / (own variance + noise)) of each window."""
    gain = covariance / (source.variance + VIF_EPSILON)
    own_variance = ours.variance - gain * covariance
    # Nothing to carry over, or contrast reversed: all of it is distortion.
    flat = source.variance < VIF_EPSILON
    unrelated = flat | (gain < 0)
    own_variance[unrelated] = ours.variance[unrelated]
    gain[unrelated] = 0
    empty = ours.variance < VIF_EPSILON
    gain[empty] = 0
    own_variance = np.maximum(own_variance, VIF_EPSILON)
    carried = np.square(gain) * source.variance
    return np.log10(1 + carried / (own_variance + VIF_NOISE_VARIANCE))
