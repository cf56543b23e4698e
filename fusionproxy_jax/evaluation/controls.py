"""Fusion without a network: the controls every student has to beat.

All of them fuse luma with infrared and keep the visible colours, in full-range BT.601
YCrCb of 8 bits with the integer arithmetic of OpenCV. Images are uint8, visible
[h, w, 3] RGB and infrared [h, w].
"""

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from fusionproxy_jax.evaluation.filters import filter_same, gaussian_taps

# Fixed-point coefficients of OpenCV: 14 fractional bits.
_BITS = 14


def mean(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """Average of luma and infrared: the weakest of all on everything but SSIM."""
    return _fuse_luma(visible, infrared, lambda luma, heat: (luma + heat) / 2)


def maximum(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """The brighter of luma and infrared: hard to beat on MI, VIF and Qabf."""
    return _fuse_luma(visible, infrared, np.maximum)


def detail_overlay(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """Infrared with the fine detail of luma on top, as thermal cameras offer it (MSX).

    Detail is what a Gaussian blur of 3 px takes away.
    """
    blur = gaussian_taps(25, 3.0)
    return _fuse_luma(
        visible, infrared, lambda luma, heat: heat + luma - filter_same(luma, blur)
    )


def laplacian_pyramid(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """Laplacian pyramid of 4 levels: detail from the locally stronger source.

    Strength is the absolute coefficient blurred with 1.5 px; the base is the maximum.
    """
    return _fuse_luma(visible, infrared, _fuse_pyramids)


CONTROLS: MappingProxyType[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = (
    MappingProxyType(
        {
            "mean": mean,
            "max": maximum,
            "msx": detail_overlay,
            "lp": laplacian_pyramid,
        }
    )
)
"""Controls by the names used in tables."""


def _fuse_luma(
    visible: np.ndarray,
    infrared: np.ndarray,
    fuse: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Replaces the luma of `visible` by `fuse(luma, infrared)`, rounded and clipped."""
    ycrcb = rgb_to_ycrcb(visible)
    luma = fuse(ycrcb[..., 0].astype(np.float32), infrared.astype(np.float32))
    ycrcb[..., 0] = np.clip(np.round(luma), 0, 255)
    return ycrcb_to_rgb(ycrcb)


def _fuse_pyramids(
    luma: np.ndarray, heat: np.ndarray, num_levels: int = 4
) -> np.ndarray:
    blur = gaussian_taps(13, 1.5).astype(np.float32)
    details = []
    for _ in range(num_levels):
        smaller_luma, smaller_heat = _halve(luma), _halve(heat)
        luma_detail = luma - _double(smaller_luma, luma.shape)
        heat_detail = heat - _double(smaller_heat, heat.shape)
        luma_wins = filter_same(np.abs(luma_detail), blur) >= filter_same(
            np.abs(heat_detail), blur
        )
        details.append(np.where(luma_wins, luma_detail, heat_detail))
        luma, heat = smaller_luma, smaller_heat
    fused = np.maximum(luma, heat)
    for detail in reversed(details):
        fused = _double(fused, detail.shape) + detail
    return fused


def _halve(image: np.ndarray) -> np.ndarray:
    """Burt and Adelson's 1 4 6 4 1 filter, then every second pixel (`cv2.pyrDown`)."""
    taps = np.array([1, 4, 6, 4, 1], np.float32) / 16
    return filter_same(image, taps)[::2, ::2]


def _double(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The same filter on the image spread out by zeros, to `shape` (`cv2.pyrUp`)."""
    height, width = shape
    rows = _double_rows(image)[:height]
    return _double_rows(rows.T)[:width].T


def _double_rows(image: np.ndarray) -> np.ndarray:
    padded = np.concatenate([image[1:2], image, image[-1:]])
    before, here, after = padded[:-2], padded[1:-1], padded[2:]
    doubled = np.empty((2 * len(image), image.shape[1]), image.dtype)
    doubled[::2] = (before + 6 * here + after) / 8
    doubled[1::2] = (here + after) / 2
    return doubled


def rgb_to_ycrcb(image: np.ndarray) -> np.ndarray:
    """Full-range BT.601, uint8 [h, w, 3] to uint8 [h, w, 3]."""
    red, green, blue = np.moveaxis(image.astype(np.int32), -1, 0)
    luma = _descale(4899 * red + 9617 * green + 1868 * blue)
    return _stack(
        luma,
        128 + _descale(11682 * (red - luma)),
        128 + _descale(9241 * (blue - luma)),
    )


def ycrcb_to_rgb(image: np.ndarray) -> np.ndarray:
    """Inverse of `rgb_to_ycrcb` up to rounding; clips colours outside RGB."""
    luma, cr, cb = np.moveaxis(image.astype(np.int32), -1, 0)
    return _stack(
        luma + _descale(22987 * (cr - 128)),
        luma + _descale(-11698 * (cr - 128) - 5636 * (cb - 128)),
        luma + _descale(29049 * (cb - 128)),
    )


def _descale(value: np.ndarray) -> np.ndarray:
    """Divides fixed-point numbers by their scale, rounding halves up."""
    return (value + (1 << (_BITS - 1))) >> _BITS


def _stack(*channels: np.ndarray) -> np.ndarray:
    return np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
