"""What an image array may be at the edge of the package, and its way to float and back.

Visible: RGB [h, w, 3] or grey [h, w]; infrared: [h, w]. Each is uint8, uint16 or float.
Full range is 255, 65535 and 1.0. Both sides are at least `MIN_SIDE_PX` long.
"""

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime import thermal

MIN_SIDE_PX = 16
# Grey images that went through JPEG have channels a few steps apart; a false-colour
# rendering has them far apart over most of the image.
GREY_TOLERANCE = 8 / 255
# Bicubic and Lanczos resizing leave [0, 1] by this much at sharp edges.
_OVERSHOOT = 0.1
GREY_SHARE = 0.99


def full_range(dtype: np.dtype) -> float:
    """Returns the value of white: 255, 65535 or 1.0."""
    return float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0


def check_size(height: int, width: int, *, source: str) -> None:
    """Raises `FusionProxyError` for an image too small for the network."""
    if min(height, width) < MIN_SIDE_PX:
        raise FusionProxyError(
            f"{source} is {width}x{height} px; "
            f"both sides must be at least {MIN_SIDE_PX} px"
        )


def checked_visible(
    array: np.ndarray, *, source: str = "the visible image"
) -> np.ndarray:
    """Returns a visible image as [h, w, 3] of its own dtype, grey repeated.

    Raises:
      FusionProxyError: wrong shape, dtype or size, NaN, or float values outside [0, 1].
    """
    array = _checked_dtype(np.asarray(array), source=source)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise FusionProxyError(
            f"{source} has shape {array.shape}; it must be colour [height, width, 3] "
            "or grey [height, width], without alpha"
        )
    check_size(*array.shape[:2], source=source)
    if np.issubdtype(array.dtype, np.floating):
        _check_finite(array, source=source)
        low, high = float(array.min()), float(array.max())
        if low < -1e-3 or high > 1 + 1e-3:
            raise FusionProxyError(
                f"{source} is {array.dtype} with values from {low:.4g} to {high:.4g}; "
                "float images must lie in [0, 1], or be given as uint8 or uint16"
            )
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array


def checked_infrared(
    array: np.ndarray, *, source: str = "the infrared image"
) -> np.ndarray:
    """Returns an infrared image as [h, w] of its own dtype.

    Three equal channels (grey stored as colour) become one.

    Raises:
      FusionProxyError: wrong shape, dtype or size, NaN, or a false-colour rendering.
    """
    array = _checked_dtype(np.asarray(array), source=source)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise FusionProxyError(
            f"{source} has shape {array.shape}; it must be grey [height, width]"
        )
    check_size(*array.shape[:2], source=source)
    if np.issubdtype(array.dtype, np.floating):
        _check_finite(array, source=source)
    return _luminance(array, source=source) if array.ndim == 3 else array


def as_float_visible(array: np.ndarray) -> np.ndarray:
    """Returns a visible image as float32 [h, w, 3] in [0, 1]; see `checked_visible`."""
    array = checked_visible(array)
    scaled = array.astype(np.float32) / np.float32(full_range(array.dtype))
    return np.clip(scaled, 0.0, 1.0)


def as_float_infrared(array: np.ndarray) -> np.ndarray:
    """Returns an infrared image as float32 [h, w] in [0, 1]; see `checked_infrared`.

    8-bit images are divided by 255: the camera has already chosen their contrast, as it
    has for float images that lie in [0, 1], give or take the overshoot of a resize,
    which is clipped. 16-bit counts and other floats (degrees, kelvin) are raw and go
    through `thermal.normalize`.
    """
    array = checked_infrared(array)
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    is_float = np.issubdtype(array.dtype, np.floating)
    if is_float and -_OVERSHOOT <= array.min() and array.max() <= 1 + _OVERSHOOT:
        return np.clip(array.astype(np.float32), 0.0, 1.0)
    return thermal.normalize(array)


def from_float(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns float [0, 1] as uint8 or uint16, rounded, or as another float."""
    image = np.clip(image, 0.0, 1.0)
    if np.issubdtype(dtype, np.integer):
        image = np.rint(image * np.float32(full_range(dtype)))
    return image.astype(dtype)


def _checked_dtype(array: np.ndarray, *, source: str) -> np.ndarray:
    is_float = np.issubdtype(array.dtype, np.floating)
    if array.dtype not in (np.uint8, np.uint16) and not is_float:
        raise FusionProxyError(
            f"{source} is {array.dtype}; it must be uint8, uint16 or float"
        )
    return array


def _check_finite(array: np.ndarray, *, source: str) -> None:
    num_bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if num_bad:
        raise FusionProxyError(
            f"{source} has {num_bad} NaN or infinite values; fill them before fusing"
        )


def _luminance(array: np.ndarray, *, source: str) -> np.ndarray:
    """Returns the ITU-R 601 luma of three channels that are (nearly) equal."""
    first = array[..., 0]
    if np.array_equal(first, array[..., 1]) and np.array_equal(first, array[..., 2]):
        return first
    channels = array.astype(np.float32)
    spread = channels.max(axis=2) - channels.min(axis=2)
    is_grey = spread <= GREY_TOLERANCE * full_range(array.dtype)
    if is_grey.mean() < GREY_SHARE:
        raise FusionProxyError(
            f"{source} is a false-colour rendering; "
            "export it from the camera in grey (white hot)"
        )
    luma = channels @ np.array([0.299, 0.587, 0.114], np.float32)
    is_integer = np.issubdtype(array.dtype, np.integer)
    return (np.rint(luma) if is_integer else luma).astype(array.dtype)
