"""Raw thermal frames to [0, 1]: a straight line between two robust percentiles.

A straight line keeps the order and the ratios of temperature differences, which
histogram equalisation does not; percentiles keep one dead or burning pixel from
deciding the contrast of the whole frame.
"""

import numpy as np

from fusionproxy_jax.errors import FusionProxyError


def value_range(
    frame: np.ndarray,
    *,
    low_percent: float = 0.5,
    high_percent: float = 99.5,
    min_counts: float = 32.0,
) -> tuple[float, float]:
    """Returns the values that become 0 and 1.

    In integer frames zero means "no measurement" (borders left by registration) and is
    left out, and the range is at least `min_counts` wide: below that a frame holds
    sensor noise, which must not be stretched into a picture.

    Args:
      frame: raw counts or temperatures of any shape, free of NaN.
      low_percent: percentile that becomes 0.
      high_percent: percentile that becomes 1.
      min_counts: least width of the range of an integer frame, in counts; 32 counts are
        0.3 K in the usual unit of 10 mK.
    """
    is_integer = np.issubdtype(frame.dtype, np.integer)
    measured = frame[frame != 0] if is_integer else frame
    if measured.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(measured, [low_percent, high_percent])
    if is_integer:
        high = max(high, low + min_counts)
    return float(low), float(high)


def normalize(
    frame: np.ndarray, *, limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Returns `frame` as float32 in [0, 1], 0 the coldest.

    A flat frame carries no information and becomes 0 everywhere, which adds nothing to
    the visible image.

    Args:
      frame: raw counts or temperatures [h, w], integer or float.
      limits: the values that become 0 and 1; by default those of `value_range`. Give
        fixed ones for a video whose contrast must not follow each frame.

    Raises:
      FusionProxyError: the frame holds NaN or infinity.
    """
    if np.issubdtype(frame.dtype, np.floating):
        num_bad = int(frame.size - np.count_nonzero(np.isfinite(frame)))
        if num_bad:
            raise FusionProxyError(
                f"{num_bad} of {frame.size} thermal values are NaN or infinite; "
                "fill them (a neighbour's value will do) before fusing"
            )
    low, high = value_range(frame) if limits is None else limits
    # Relative to the values: 300 K and 300.0001 K are one temperature in float32.
    if high - low <= 1e-6 * max(abs(low), abs(high), 1e-30):
        return np.zeros(frame.shape, np.float32)
    # float64 until the offset is gone: 7000 counts and a range of 50 need the digits.
    scaled = (frame.astype(np.float64) - low) / (high - low)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)
