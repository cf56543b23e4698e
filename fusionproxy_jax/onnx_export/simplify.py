"""Equivalent but faster forms of what the exporter writes.

Every rule replaces a pattern where it finds one and leaves the graph as it is where it
does not. What is saved are passes over large maps, the student's cost on a CPU.
"""

import numpy as np
import onnx_ir as ir

from fusionproxy_jax.onnx_export.channels_first import (
    channels_first,
    is_convolutional,
    pooled_mean,
)
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


def fold_constants(graph: ir.Graph) -> None:
    """Stores reshaped and transposed parameters as such."""
    for node in list(graph):
        array = constant(node.inputs[0]) if node.inputs else None
        if array is None:
            continue
        if node.op_type == "Transpose":
            folded = array.transpose(attribute(node, "perm"))
        elif node.op_type == "Reshape" and constant(node.inputs[1]) is not None:
            folded = array.reshape(constant(node.inputs[1]))
        else:
            continue
        stored = Insertion(graph, before=node)("Identity", np.ascontiguousarray(folded))
        replace(node.outputs[0], stored.producer().inputs[0])
        graph.remove([node, stored.producer()], safe=True)


def convolution_bias(graph: ir.Graph) -> None:
    """Moves a constant added to a convolution's channels into the convolution."""
    for node in list(graph):
        if node.op_type != "Conv" or len(node.inputs) != 2:
            continue
        transpose = only_user(node.outputs[0])
        if transpose is None or transpose.op_type != "Transpose":
            continue
        addition = only_user(transpose.outputs[0])
        if addition is None or addition.op_type != "Add":
            continue
        bias = constant(addition.inputs[1])
        channels = node.inputs[1].shape[0]
        if bias is None or bias.shape != (1, 1, 1, channels):
            continue
        add = Insertion(graph, before=node)
        convolved = add("Conv", *node.inputs, bias.reshape(-1), **attributes_of(node))
        replace(node.outputs[0], convolved)
        replace(addition.outputs[0], transpose.outputs[0])
        graph.remove([addition, node], safe=True)


def depth_to_space_order(graph: ir.Graph) -> None:
    """Orders the channels that DepthToSpace unfolds by colour first (mode CRD).

    PyTorch has no other order; the convolution before it takes the change.
    """
    for node in list(graph):
        if node.op_type != "DepthToSpace" or attribute(node, "mode") != "DCR":
            continue
        convolution = made_by(node.inputs[0], "Conv")
        if convolution is None or only_user(node.inputs[0]) is not node:
            continue
        stored = [constant(value) for value in convolution.inputs[1:]]
        if len(stored) != 2 or any(array is None for array in stored):
            continue
        weights, bias = stored
        num_offsets = attribute(node, "blocksize") ** 2
        order = np.arange(len(bias)).reshape(num_offsets, -1).T.reshape(-1)
        add = Insertion(graph, before=node)
        x = add(
            "Conv",
            convolution.inputs[0],
            weights[order],
            bias[order],
            **attributes_of(convolution),
        )
        unfolded = add(
            "DepthToSpace", x, blocksize=attribute(node, "blocksize"), mode="CRD"
        )
        replace(node.outputs[0], unfolded)
        graph.remove([node, convolution], safe=True)


def spatial_mean(graph: ir.Graph) -> None:
    """Means over height and width become products with a row of ones.

    ONNX Runtime's reduction over the rows of a matrix is 30 times slower on a CPU.
    """
    for node in list(graph):
        axes = attribute(node, "axes")
        if node.op_type != "ReduceMean" or axes is None or list(axes) != [1, 2]:
            continue
        x = node.inputs[0]
        if x.shape is None or len(x.shape) != 4:
            continue
        channels = x.shape[-1]
        add = Insertion(graph, before=node)
        pixels = add("Reshape", x, np.array([0, -1, channels]))
        count = add("Slice", add("Shape", pixels), np.array([1]), np.array([2]))
        ones = add(
            "ConstantOfShape",
            add("Concat", np.array([1, 1]), count, axis=0),
            value=ir.tensor(np.ones(1, np.float32)),
        )
        total = add("MatMul", ones, pixels)
        mean = add("Div", total, add("Cast", count, to=ir.DataType.FLOAT))
        shape = np.array(
            [0, 1, 1, channels] if attribute(node, "keepdims") else [0, -1]
        )
        replace(node.outputs[0], add("Reshape", mean, shape))
        graph.remove(node, safe=True)


def _is_gain(value: ir.Value, channels: int) -> bool:
    shape = value.shape
    return shape is not None and len(shape) == 4 and list(shape[1:]) == [1, 1, channels]


def _gained_map(
    value: ir.Value, channels: int
) -> tuple[ir.Value, ir.Value, np.ndarray | None] | None:
    """Splits `x * gain (+ offset)` into its parts, a gain being [b, 1, 1, c]."""
    offset = None
    addition = made_by(value, "Add")
    if addition is not None:
        offset = constant(addition.inputs[1])
        if offset is None or offset.size != channels:
            return None
        value = addition.inputs[0]
        if only_user(value) is None:
            return None
    product = made_by(value, "Mul")
    if product is None:
        return None
    x, gain = sorted(product.inputs, key=lambda factor: _is_gain(factor, channels))
    if not _is_gain(gain, channels) or _is_gain(x, channels):
        return None
    return x, gain, offset


def gain_into_weights(graph: ir.Graph) -> None:
    """A gain per image and channel before a dense layer scales the layer's weights.

    (x * gain + c) W + b = x (gain W) + (c W + b): global response normalisation and
    channel attention cost no pass over their maps.
    """
    for gemm in list(graph):
        parameters = dense_parameters(gemm)
        flatten = made_by(gemm.inputs[0], "Reshape") if gemm.inputs else None
        if parameters is None or flatten is None:
            continue
        weights, bias = parameters
        gained = flatten.inputs[0]
        channels = weights.shape[0]
        parts = _gained_map(gained, channels)
        # Apart from the layer, only the size of the map may be read.
        others = {node.op_type for node, _ in gained.uses() if node is not flatten}
        if parts is None or not others <= {"Shape"}:
            continue
        x, gain, offset = parts
        if offset is not None:
            bias = offset.reshape(-1) @ weights + bias
        add = Insertion(graph, before=gemm)
        column = add("Reshape", gain, np.array([0, -1, 1]))
        image_weights = add("Mul", column, weights[None])
        pixels = add("Reshape", x, np.array([0, -1, channels]))
        dense = add("Add", add("MatMul", pixels, image_weights), bias)
        gemm.outputs[0].replace_all_uses_with(dense)
        graph.remove(gemm, safe=True)
        replace(gained, x)


def image_weights(graph: ir.Graph) -> None:
    """Products with weights [b, o, i] of each image become plain matrix products."""
    for node in list(graph):
        if attribute(node, "equation") != "bhwi,boi->bhwo":
            continue
        x, weights = node.inputs
        add = Insertion(graph, before=node)
        pixels = add("Reshape", x, np.array([0, -1, x.shape[-1]]))
        product = add("MatMul", pixels, add("Transpose", weights, perm=[0, 2, 1]))
        size = add("Slice", add("Shape", x), np.array([0]), np.array([3]))
        shape = add("Concat", size, np.array([weights.shape[1]]), axis=0)
        replace(node.outputs[0], add("Reshape", product, shape))
        graph.remove(node, safe=True)


def simplify(model: ir.Model) -> None:
    """Applies every rule."""
    graph = model.graph
    for rule in (fold_constants, convolution_bias, depth_to_space_order):
        rule(graph)
    if is_convolutional(graph):
        pooled_mean(graph)
        gain_into_weights(graph)
        channels_first(graph)
    else:
        spatial_mean(graph)
        gain_into_weights(graph)
        image_weights(graph)
