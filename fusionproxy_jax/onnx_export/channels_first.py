"""Keeps maps channels-first (NCHW) from the first convolution to the last.

The exporter writes channels-last maps with transposes around each convolution. In
networks of convolutions alone, dense layers become 1x1 convolutions and the transposes
move down until they meet their inverses, so that ONNX Runtime's blocked convolutions,
with sums and activations inside, follow each other without a copy.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from fusionproxy_jax.onnx_export.graph import (
    Insertion,
    attribute,
    attributes_of,
    constant,
    dense_parameters,
    made_by,
    only_user,
    replace,
)

TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)


def _is_transpose(node: ir.Node | None, perm: tuple[int, ...]) -> bool:
    return (
        node is not None
        and node.op_type == "Transpose"
        and tuple(attribute(node, "perm")) == perm
    )


def is_convolutional(graph: ir.Graph) -> bool:
    """Says whether no layer needs the channels of a pixel beside each other."""
    return all(node.op_type != "LayerNormalization" for node in graph)


def _is_map(value: ir.Value | None) -> bool:
    """Says whether a value is [b, h, w, c] with a height and width of more than one."""
    shape = value.shape if value is not None else None
    return shape is not None and len(shape) == 4 and list(shape[1:3]) != [1, 1]


def dense_to_convolution(graph: ir.Graph) -> None:
    """Writes dense layers over the channels of a map as 1x1 convolutions."""
    for gemm in list(graph):
        parameters = dense_parameters(gemm)
        if parameters is None:
            continue
        weights, bias = parameters
        flatten = made_by(gemm.inputs[0], "Reshape")
        unflatten = only_user(gemm.outputs[0])
        if flatten is None or unflatten is None or unflatten.op_type != "Reshape":
            continue
        before, after = flatten.inputs[0], unflatten.outputs[0]
        # The same places with other channels, not rows cut or grouped anew.
        if not (
            _is_map(before)
            and _is_map(after)
            and list(before.shape[:3]) == list(after.shape[:3])
            and (before.shape[3], after.shape[3]) == weights.shape
        ):
            continue
        add = Insertion(graph, before=gemm)
        x = add("Transpose", flatten.inputs[0], perm=TO_NCHW)
        kernel = np.ascontiguousarray(weights.T)[:, :, None, None]
        convolved = add("Conv", x, kernel, bias, kernel_shape=[1, 1])
        replace(unflatten.outputs[0], add("Transpose", convolved, perm=TO_NHWC))
        graph.remove([unflatten, gemm], safe=True)


def pooled_mean(graph: ir.Graph) -> None:
    """Writes means over height and width as GlobalAveragePool."""
    for node in list(graph):
        axes = attribute(node, "axes")
        if node.op_type != "ReduceMean" or axes is None or list(axes) != [1, 2]:
            continue
        if not _is_map(node.inputs[0]):
            continue
        channels = node.inputs[0].shape[-1]
        add = Insertion(graph, before=node)
        x = add("Transpose", node.inputs[0], perm=TO_NCHW)
        shape = [0, 1, 1, channels] if attribute(node, "keepdims") else [0, -1]
        mean = add("Reshape", add("GlobalAveragePool", x), np.array(shape))
        replace(node.outputs[0], mean)
        graph.remove(node, safe=True)


def matrix_products(graph: ir.Graph) -> None:
    """Writes matrix products over channels for channels-first maps.

    They are the fusion heads', with weights [b, o, i] of each image, and luminance.
    """
    for node in list(graph):
        x = node.inputs[0] if node.inputs else None
        match attribute(node, "equation"):
            case "bhwi,boi->bhwo":
                weights, num_outputs = node.inputs[1], node.inputs[1].shape[1]
            case "abcd,de->abce" if (stored := constant(node.inputs[1])) is not None:
                weights, num_outputs = np.ascontiguousarray(stored.T), stored.shape[1]
            case _:
                continue
        add = Insertion(graph, before=node)
        x = add("Transpose", x, perm=TO_NCHW)
        pixels = add("Reshape", x, np.array([0, node.inputs[0].shape[-1], -1]))
        product = add("MatMul", weights, pixels)
        last, addition = node, only_user(node.outputs[0])
        if addition is not None and addition.op_type == "Add":
            bias = constant(addition.inputs[1])
            if bias is not None and bias.shape in (
                (num_outputs,),
                (1, 1, 1, num_outputs),
            ):
                product, last = add("Add", product, bias.reshape(1, -1, 1)), addition
        size = add("Slice", add("Shape", x), np.array([2]), np.array([4]))
        shape = add("Concat", np.array([0, num_outputs]), size, axis=0)
        result = add("Transpose", add("Reshape", product, shape), perm=TO_NHWC)
        replace(last.outputs[0], result)
        graph.remove([last] if last is node else [last, node], safe=True)


# Operators that work element by element.
_ELEMENTWISE = frozenset(
    ("Add", "Sub", "Mul", "Div", "Relu", "HardSwish", "Sigmoid", "Erf", "Clip", "Cast")
)


def _axes_moved(node: ir.Node) -> dict[str, object] | None:
    """Returns the attributes of an operator over channels, for channels-first maps."""
    attributes = attributes_of(node)
    if node.op_type == "Concat" and attributes["axis"] in (3, -1):
        return attributes | {"axis": 1}
    return attributes if node.op_type in _ELEMENTWISE else None


def _sliced_channels(node: ir.Node) -> list[np.ndarray] | None:
    """Returns starts, ends and axes of a slice of channels, for channels-first maps."""
    if node.op_type != "Slice" or len(node.inputs) < 4:
        return None
    starts, ends, axes, *steps = (constant(value) for value in node.inputs[1:])
    if starts is None or ends is None or axes is None or (steps and steps[0] is None):
        return None
    if any(np.any(step != 1) for step in steps):
        return None
    spatial = [i for i, axis in enumerate(axes) if axis % 4 != 3]
    # Other axes are only named, not cut.
    if any(starts[i] != 0 or ends[i] < 2**31 - 1 for i in spatial):
        return None
    kept = [i for i in range(len(axes)) if i not in spatial]
    return [starts[kept], ends[kept], np.ones(len(kept), np.int64)]


def _channels_first_input(value: ir.Value) -> ir.Value | np.ndarray | None:
    """Returns what a channels-last input is without its transpose."""
    array = constant(value)
    if array is not None:
        if array.ndim == 4:
            return np.ascontiguousarray(array.transpose(TO_NCHW))
        return array if array.ndim == 0 else None
    transpose = value.producer()
    return transpose.inputs[0] if _is_transpose(transpose, TO_NHWC) else None


def sink_transposes(graph: ir.Graph) -> None:
    """Moves transposes to channels-last below what can be done channels-first."""
    for node in list(graph):
        build = _sunk(node)
        if build is None:
            continue
        add = Insertion(graph, before=node)
        replace(node.outputs[0], add("Transpose", build(add), perm=TO_NHWC))
        graph.remove(node, safe=True)


def _sunk(node: ir.Node) -> Callable[[Insertion], ir.Value] | None:
    """Returns how to write a node channels-first, or None where it cannot be."""
    if len(node.outputs) != 1 or not node.inputs:
        return None
    cut = _sliced_channels(node)
    if cut is not None:
        x = _channels_first_input(node.inputs[0])
        return None if x is None else lambda add: add("Slice", x, *cut)
    attributes = _axes_moved(node)
    if attributes is None or None in node.inputs:
        return None
    inputs = [_channels_first_input(value) for value in node.inputs]
    if any(value is None for value in inputs):
        return None
    if all(isinstance(value, np.ndarray) for value in inputs):
        return None
    return lambda add: add(node.op_type, *inputs, **attributes)


def cancel_transposes(graph: ir.Graph) -> None:
    """Removes transposes that undo the one before them."""
    for node in list(graph):
        if not _is_transpose(node, TO_NCHW):
            continue
        before = node.inputs[0].producer()
        if _is_transpose(before, TO_NHWC):
            replace(node.outputs[0], before.inputs[0])


def channels_first(graph: ir.Graph) -> None:
    """Applies the rules to a network of convolutions."""
    for rule in (dense_to_convolution, matrix_products):
        rule(graph)
    sink_transposes(graph)
    cancel_transposes(graph)
