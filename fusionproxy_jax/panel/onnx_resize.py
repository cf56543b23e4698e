"""ONNX Resize and Upsample: nearest and linear, any axes, as one matrix per axis."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.panel.onnx_node import OnnxNode, Value, at, known, known_integers

Inputs = Sequence[Value | None]


class _Axis(NamedTuple):
    before: int
    after: int
    scale: float


def _half_pixel(places: np.ndarray, axis: _Axis) -> np.ndarray:
    return (places + np.float32(0.5)) / np.float32(axis.scale) - np.float32(0.5)


def _pytorch_half_pixel(places: np.ndarray, axis: _Axis) -> np.ndarray:
    return _half_pixel(places, axis) if axis.after > 1 else np.zeros_like(places)


def _half_pixel_symmetric(places: np.ndarray, axis: _Axis) -> np.ndarray:
    # The centre stays where it is although the size was rounded.
    exact = np.float32(axis.scale) * np.float32(axis.before)
    shift = np.float32(axis.before / 2) * (1 - np.float32(axis.after) / exact)
    return shift + _half_pixel(places, axis)


def _align_corners(places: np.ndarray, axis: _Axis) -> np.ndarray:
    if axis.after == 1:
        return np.zeros_like(places)
    return places * np.float32(axis.before - 1) / np.float32(axis.after - 1)


def _asymmetric(places: np.ndarray, axis: _Axis) -> np.ndarray:
    return places / np.float32(axis.scale)


# Place of an element of the result in the input's own pixels.
_COORDINATES: Mapping[str, Callable[[np.ndarray, _Axis], np.ndarray]] = (
    MappingProxyType(
        {
            "align_corners": _align_corners,
            "asymmetric": _asymmetric,
            "half_pixel": _half_pixel,
            "half_pixel_symmetric": _half_pixel_symmetric,
            "pytorch_half_pixel": _pytorch_half_pixel,
        }
    )
)
_ROUNDING: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "ceil": np.ceil,
        "floor": np.floor,
        "round_prefer_ceil": lambda places: np.floor(places + np.float32(0.5)),
        "round_prefer_floor": lambda places: np.ceil(places - np.float32(0.5)),
    }
)


def _matrix(axis: _Axis, *, mode: str, coordinates: str, rounding: str) -> np.ndarray:
    """Returns [after, before]: what each element of the result takes of the input."""
    places = _COORDINATES[coordinates](np.arange(axis.after, dtype=np.float32), axis)
    last = axis.before - 1
    if mode == "nearest":
        places = _ROUNDING[rounding](places)
    places = np.clip(places, 0, last)
    lower = np.floor(places).astype(int)
    share = places - lower
    matrix = np.zeros((axis.after, axis.before), np.float32)
    rows = np.arange(axis.after)
    np.add.at(matrix, (rows, lower), 1 - share)
    np.add.at(matrix, (rows, np.minimum(lower + 1, last)), share)
    return matrix


def _resized(x: Value, axes: Sequence[_Axis], matrices: Sequence[np.ndarray]) -> Value:
    result = jnp.asarray(x)
    for index, (axis, matrix) in enumerate(zip(axes, matrices, strict=True)):
        if axis.before == axis.after and axis.scale == 1:
            continue
        product = jnp.tensordot(
            result,
            jnp.asarray(matrix, result.dtype),
            ((index,), (1,)),
            precision=jax.lax.Precision.HIGHEST,
        )
        result = jnp.moveaxis(product, -1, index)
    return result


def _scaled(size: int, scale: float) -> _Axis:
    return _Axis(size, int(np.floor(np.float32(size) * np.float32(scale))), scale)


def _choice(node: OnnxNode, attribute: str, default: str, *allowed: str) -> str:
    value = node.get(attribute, default)
    if value not in allowed:
        raise node.refuse(f"{attribute} {value!r}", ", ".join(allowed))
    return value


def _upsample(node: OnnxNode, inputs: Inputs) -> Value:
    """Upsample, and Resize as it was in opset 10."""
    x = inputs[0]
    mode = _choice(node, "mode", "nearest", "nearest", "linear")
    scales = np.ravel(known(node, at(inputs, 1), "scales"))
    axes = [_scaled(*pair) for pair in zip(x.shape, scales.tolist(), strict=True)]
    matrices = [
        _matrix(
            axis,
            mode=mode,
            coordinates="asymmetric",
            # Not in the standard, which is silent; what ONNX Runtime does.
            rounding="ceil" if axis.scale < 1 else "floor",
        )
        for axis in axes
    ]
    return _resized(x, axes, matrices)


def _axes(node: OnnxNode, inputs: Inputs) -> list[_Axis]:
    shape = np.shape(inputs[0])
    chosen = node.get("axes", tuple(range(len(shape))))
    axes = [_Axis(size, size, 1.0) for size in shape]
    scales = known(node, at(inputs, 2), "scales")
    if scales is not None and scales.size:
        for index, scale in zip(chosen, np.ravel(scales).tolist(), strict=True):
            axes[index] = _scaled(shape[index], scale)
    else:
        sizes = known_integers(node, inputs, 3, "sizes")
        for index, size in zip(chosen, sizes, strict=True):
            axes[index] = _Axis(shape[index], size, size / shape[index])
    return axes


def _resize(node: OnnxNode, inputs: Inputs) -> Value:
    if node.opset < 11:
        return _upsample(node, inputs)
    if node.get("antialias", 0):
        raise node.refuse("antialias 1", "antialias 0")
    _choice(node, "keep_aspect_ratio_policy", "stretch", "stretch")
    settings = {
        "mode": _choice(node, "mode", "nearest", "nearest", "linear"),
        "coordinates": _choice(
            node, "coordinate_transformation_mode", "half_pixel", *_COORDINATES
        ),
        "rounding": node.get("nearest_mode", "round_prefer_floor"),
    }
    axes = _axes(node, inputs)
    return _resized(inputs[0], axes, [_matrix(axis, **settings) for axis in axes])


RESIZING = MappingProxyType({"Resize": _resize, "Upsample": _upsample})
