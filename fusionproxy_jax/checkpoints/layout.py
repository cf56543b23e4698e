"""From torch's layout of a tensor to Flax's, and to the type wanted."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np

FloatName = Literal["float32", "float16", "bfloat16"]


# Each raises ValueError for a tensor of another rank or width.
def _conv(kernel: np.ndarray) -> np.ndarray:
    """(out, in, height, width) -> (height, width, in, out)."""
    return kernel.transpose(2, 3, 1, 0)


def _linear(weight: np.ndarray) -> np.ndarray:
    """(out, in) -> (in, out)."""
    return weight.transpose(1, 0)


def _conv1d(kernel: np.ndarray) -> np.ndarray:
    """(out, in, 1), a convolution that is a dense layer -> (in, out)."""
    return kernel.squeeze(2).transpose(1, 0)


def _pointwise(weight: np.ndarray) -> np.ndarray:
    """(out, in), ones behind it or not -> (in, out)."""
    return weight.reshape(weight.shape[:2]).transpose(1, 0)


def _flat(values: np.ndarray) -> np.ndarray:
    """One axis among axes of length one -> that axis."""
    return values.reshape(max(values.shape))


def _square(rows: np.ndarray) -> np.ndarray:
    """(rows, side * side) -> (rows, side, side)."""
    count, length = rows.shape
    side = math.isqrt(length)
    return rows.reshape(count, side, side)


def _as_is(values: np.ndarray) -> np.ndarray:
    return values


TRANSFORMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "conv": _conv,
        "linear": _linear,
        "conv1d": _conv1d,
        "pointwise": _pointwise,
        "flat": _flat,
        "square": _square,
        "as_is": _as_is,
        "embedding": _as_is,
    }
)


def shape_after(transform: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Returns the transformed shape; None if the transform takes no such shape."""
    try:
        # One element, repeated: any shape without its memory.
        stand_in = np.broadcast_to(np.zeros((), np.uint8), shape)
        return TRANSFORMS[transform](stand_in).shape
    except ValueError:
        return None


def float_dtype(name: FloatName) -> np.dtype:
    """Returns NumPy's type of that name; bfloat16 comes with JAX."""
    # Registers bfloat16 with NumPy.
    import ml_dtypes  # noqa: F401

    return np.dtype(name)


def cast(values: np.ndarray, dtype: FloatName) -> np.ndarray | None:
    """Returns values in C order and of that type; None if one would become infinite."""
    to = float_dtype(dtype)
    with np.errstate(over="ignore"):
        result = np.asarray(values, to, order="C")
    if to != values.dtype and _num_finite(result) != _num_finite(values):
        return None
    return result


def _num_finite(values: np.ndarray) -> int:
    return int(np.count_nonzero(np.isfinite(values)))
