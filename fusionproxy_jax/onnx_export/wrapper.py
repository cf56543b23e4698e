"""Makes the network of multiples of its stride one of any size, for floats or cameras.

Pad, crop, colour range and layout live in the graph, so that every runtime gets them.
"""

import numpy as np
import onnx_ir as ir

from fusionproxy_jax.onnx_export.graph import Insertion

CHANNELS = {"visible": 3, "infrared": 1}
"""Inputs of every exported student; the output is `fused`, with three."""


def _spatial_size(add: Insertion, image: ir.Value) -> ir.Value:
    """Returns [height, width] of an NCHW image."""
    return add("Slice", add("Shape", image), np.array([2]), np.array([4]))


def _pad_to_stride(add: Insertion, image: ir.Value, stride: int) -> ir.Value:
    """Repeats the last row and column of NCHW images up to multiples of `stride`."""
    missing = add("Mod", add("Neg", _spatial_size(add, image)), np.array(stride))
    pads = add("Concat", np.zeros(6, np.int64), missing, axis=0)
    return add("Pad", image, pads, mode="edge")


def _crop(add: Insertion, image: ir.Value, like: ir.Value) -> ir.Value:
    """Cuts an NCHW image to the size of another, at the upper left."""
    size = _spatial_size(add, like)
    return add("Slice", image, np.array([0, 0]), size, np.array([2, 3]))


def _number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def _channels_first(add: Insertion, image: ir.Value) -> ir.Value:
    """Returns NHWC as NCHW; one channel takes no copy."""
    if image.shape[-1] == 1:
        return add("Unsqueeze", add("Squeeze", image, np.array([3])), np.array([1]))
    return add("Transpose", image, perm=[0, 3, 1, 2])


def _unit_range(add: Insertion, image: ir.Value) -> ir.Value:
    """Returns bytes as floats in [0, 1]."""
    return add("Mul", add("Cast", image, to=ir.DataType.FLOAT), _number(1.0 / 255.0))


def _levels(add: Insertion, image: ir.Value) -> ir.Value:
    """Returns floats in [0, 1] as whole numbers in 0..255, still floats."""
    levels = add("Round", add("Mul", image, _number(255.0)))
    return add("Clip", levels, _number(0.0), _number(255.0))


def _interface(name: str, channels: int, *, camera: bool) -> ir.Value:
    sizes = ("B", "H", "W", channels) if camera else ("B", channels, "H", "W")
    dtype = ir.DataType.UINT8 if camera else ir.DataType.FLOAT
    return ir.Value(name=name, shape=ir.Shape(sizes), type=ir.TensorType(dtype))


def _forget_inner_shapes(graph: ir.Graph) -> None:
    """Drops the shapes in multiples of the stride; outside, sizes are free."""
    for node in graph:
        for value in node.outputs:
            value.shape = None


def add_image_interface(model: ir.Model, *, stride: int, camera: bool) -> None:
    """Wraps the core network `visible, infrared -> fused`, float NCHW in [0, 1].

    Args:
        model: The core network; changed in place.
        stride: Height and width the core network takes are multiples of it.
        camera: Takes and returns uint8 NHWC; otherwise float32 NCHW in [0, 1].
    """
    graph = model.graph
    _forget_inner_shapes(graph)
    first = graph[0]
    add = Insertion(graph, before=first)
    images = {}
    for position, (name, channels) in enumerate(CHANNELS.items()):
        inner = graph.inputs[position]
        outer = _interface(name, channels, camera=camera)
        images[name] = image = _channels_first(add, outer) if camera else outer
        # Copies of bytes are four times as fast as of floats.
        padded = _pad_to_stride(add, image, stride)
        inner.name = f"{name}_padded"
        inner.replace_all_uses_with(_unit_range(add, padded) if camera else padded)
        graph.inputs[position] = outer
    add = Insertion(graph)
    core = graph.outputs[0]
    core.name = "core_output"
    if camera:
        levels = add("Cast", _levels(add, core), to=ir.DataType.UINT8)
        cropped = _crop(add, levels, images["visible"])
        result = add("Transpose", cropped, perm=[0, 2, 3, 1])
    else:
        cropped = _crop(add, core, images["visible"])
        result = add("Clip", cropped, _number(0.0), _number(1.0))
    fused = _interface("fused", 3, camera=camera)
    result.name, result.shape, result.type = fused.name, fused.shape, fused.type
    graph.outputs[0] = result
