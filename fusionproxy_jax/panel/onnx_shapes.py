"""ONNX operators that move elements; known values stay known (see `onnx_node`)."""

from collections.abc import Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.panel.onnx_node import (
    OnnxNode,
    Value,
    at,
    known_integers,
    library,
    unified,
)

Inputs = Sequence[Value | None]


def _reshape(node: OnnxNode, inputs: Inputs) -> Value:
    x = inputs[0]
    shape = known_integers(node, inputs, 1, "shape")
    if not node.get("allowzero", 0):
        # Zero keeps the size that is there.
        shape = [size or x.shape[axis] for axis, size in enumerate(shape)]
    return x.reshape(shape)


def _flatten(node: OnnxNode, inputs: Inputs) -> Value:
    x = inputs[0]
    axis = node.get("axis", 1)
    rows = int(np.prod(x.shape[:axis], dtype=int))
    return x.reshape(rows, int(np.prod(x.shape[axis:], dtype=int)))


def _squeeze(node: OnnxNode, inputs: Inputs) -> Value:
    return inputs[0].squeeze(known_integers(node, inputs, 1, "axes"))


def _unsqueeze(node: OnnxNode, inputs: Inputs) -> Value:
    axes = known_integers(node, inputs, 1, "axes")
    return library(inputs[0]).expand_dims(inputs[0], axes)


def _transpose(node: OnnxNode, inputs: Inputs) -> Value:
    return inputs[0].transpose(node.get("perm"))


def _concat(node: OnnxNode, inputs: Inputs) -> Value:
    return library(*inputs).concatenate(unified(inputs), axis=node.get("axis"))


def _split(node: OnnxNode, inputs: Inputs) -> tuple[Value, ...]:
    x = inputs[0]
    axis = node.get("axis", 0)
    sizes = known_integers(node, inputs, 1, "split")
    if sizes is None:
        # Equal parts; the last is smaller where the size does not divide.
        count = len(node.outputs)
        part = -(-x.shape[axis] // count)
        sizes = [part] * count
    ends = np.cumsum(sizes)[:-1].tolist()
    return tuple(library(x).split(x, ends, axis=axis))


def _one_slice(start: int, end: int, step: int, size: int) -> slice:
    """Clamps as ONNX does; Python's own rule would read -1 as the last element."""
    start, end = (bound + size if bound < 0 else bound for bound in (start, end))
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(start, None if end < 0 else end, step)


def _slice(node: OnnxNode, inputs: Inputs) -> Value:
    x = inputs[0]
    starts, ends, axes, steps = (
        known_integers(node, inputs, 1 + index, what)
        for index, what in enumerate(("starts", "ends", "axes", "steps"))
    )
    slices = [slice(None)] * np.ndim(x)
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        slices[axis] = _one_slice(start, end, step, x.shape[axis])
    return x[tuple(slices)]


def _gather(node: OnnxNode, inputs: Inputs) -> Value:
    x, indices = inputs
    return library(x, indices).take(x, indices, axis=node.get("axis", 0))


def _shape(node: OnnxNode, inputs: Inputs) -> np.ndarray:
    shape = np.array(np.shape(inputs[0]), np.int64)
    return shape[node.get("start", 0) : node.get("end", len(shape))]


def _constant(node: OnnxNode, inputs: Inputs) -> np.ndarray:
    for name, dtype in (
        ("value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return np.asarray(node.get(name), dtype)
    raise node.refuse(f"a value given as {list(node.attributes)}", "numbers")


def _constant_of_shape(node: OnnxNode, inputs: Inputs) -> np.ndarray:
    value = np.asarray(node.get("value", np.zeros(1, np.float32)))
    shape = known_integers(node, inputs, 0, "shape")
    return np.full(shape, value.reshape(()), value.dtype)


def _expand(node: OnnxNode, inputs: Inputs) -> Value:
    x = inputs[0]
    shape = known_integers(node, inputs, 1, "shape")
    return library(x).broadcast_to(x, np.broadcast_shapes(x.shape, shape))


def _pad(node: OnnxNode, inputs: Inputs) -> Value:
    x = inputs[0]
    numbers = known_integers(node, inputs, 1, "pads")
    axes = known_integers(node, inputs, 3, "axes")
    axes = range(np.ndim(x)) if axes is None else axes
    pads = [(0, 0)] * np.ndim(x)
    for index, axis in enumerate(axes):
        pads[axis] = (numbers[index], numbers[len(axes) + index])
    mode = node.get("mode", "constant")
    if mode not in ("constant", "edge", "reflect"):
        raise node.refuse(f"mode {mode!r}", "constant, edge and reflect")
    if mode != "constant":
        cropped = tuple(
            slice(max(0, -low), size - max(0, -high))
            for (low, high), size in zip(pads, x.shape, strict=True)
        )
        growing = [(max(0, low), max(0, high)) for low, high in pads]
        return library(x).pad(x[cropped], growing, mode=mode)
    value = node.get("value", 0.0) if node.opset < 11 else at(inputs, 2)
    value = jnp.asarray(0 if value is None else value, x.dtype).reshape(())
    return jax.lax.pad(x, value, [(low, high, 0) for low, high in pads])


def _depth_to_space(node: OnnxNode, inputs: Inputs) -> Value:
    x = inputs[0]
    batch, channels, height, width = x.shape
    block = node.get("blocksize")
    depth = channels // block**2
    if node.get("mode", "DCR") == "DCR":
        x = x.reshape(batch, block, block, depth, height, width)
        x = x.transpose(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(batch, depth, block, block, height, width)
        x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, depth, height * block, width * block)


def _space_to_depth(node: OnnxNode, inputs: Inputs) -> Value:
    x = inputs[0]
    batch, channels, height, width = x.shape
    block = node.get("blocksize")
    rows, columns = height // block, width // block
    x = x.reshape(batch, channels, rows, block, columns, block)
    return x.transpose(0, 3, 5, 1, 2, 4).reshape(
        batch, channels * block**2, rows, columns
    )


SHAPES = MappingProxyType(
    {
        "Concat": _concat,
        "Constant": _constant,
        "ConstantOfShape": _constant_of_shape,
        "DepthToSpace": _depth_to_space,
        "Expand": _expand,
        "Flatten": _flatten,
        "Gather": _gather,
        "Pad": _pad,
        "Reshape": _reshape,
        "Shape": _shape,
        "Slice": _slice,
        "SpaceToDepth": _space_to_depth,
        "Split": _split,
        "Squeeze": _squeeze,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
