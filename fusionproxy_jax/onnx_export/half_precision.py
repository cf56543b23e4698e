"""Float16 forms whose statistics over whole images stay float32.

A mean over 307,200 pixels passes through a sum, and a global response through a sum of
squares; both leave float16, which ends at 65,504. Those few numbers per image cost
nothing in float32, so weights and maps alone become float16.
"""

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir
from onnxruntime.transformers.float16 import convert_float_to_float16

from fusionproxy_jax.onnx_export.fixed_size import map_names
from fusionproxy_jax.onnx_export.graph import Insertion, constant, tidy

# Layers with weights: their sums are over channels, which float16 holds.
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns `model` with float16 weights and maps; inputs and outputs stay.

    Args:
        model: A finished float32 form with free sizes, of either interface.
    """
    kept = statistics_nodes(model)
    prepared = ir.from_proto(model)
    _separate_constants(prepared.graph, kept)
    converted = convert_float_to_float16(
        ir.to_proto(prepared), keep_io_types=True, node_block_list=sorted(kept)
    )
    half = ir.from_proto(converted)
    _remove_round_trips(half.graph)
    proto = ir.to_proto(tidy(half))
    # Inferred for float32, and inferred again by whoever needs them.
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto, full_check=True)
    return proto


def statistics_nodes(model: onnx.ModelProto) -> set[str]:
    """Returns the names of the nodes that compute numbers per image from maps.

    They reduce a map over height and width, prepare that (squares, rows of ones, counts
    of pixels), or go on with its result up to the next layer with weights.
    """
    nodes = {node.name: node for node in ir.from_proto(model).graph}
    maps = map_names(model)
    kept: set[str] = set()
    per_image: set[str] = set()
    for name, node in nodes.items():
        if node.op_type == "Shape":
            continue
        inputs = {value.name for value in node.inputs if value is not None}
        (output, *_) = (value.name for value in node.outputs)
        pools = bool(inputs & maps) and output not in maps
        continues = (
            bool(inputs & per_image)
            and output not in maps
            and node.op_type not in _LAYERS
            and not _has_weights(node)
        )
        if pools or continues:
            kept.add(name)
            per_image.add(output)
    return kept | _preparations(nodes.values(), kept)


def _has_weights(node: ir.Node) -> bool:
    """Whether a matrix of parameters goes in, beyond a number per channel."""
    arrays = filter(lambda a: a is not None, map(constant, node.inputs))
    return any(np.sum(np.array(array.shape) > 1) > 1 for array in arrays)


def _preparations(nodes: Iterable[ir.Node], kept: set[str]) -> set[str]:
    """Returns the nodes that work for kept ones only and have no weights."""
    found: set[str] = set()
    for node in reversed(list(nodes)):
        if node.name in kept or node.op_type in _LAYERS or _has_weights(node):
            continue
        readers = {use.node.name for value in node.outputs for use in value.uses()}
        if readers and readers <= kept | found:
            found.add(node.name)
    return found


def _separate_constants(graph: ir.Graph, kept: set[str]) -> None:
    """Gives kept nodes float constants of their own, which then stay float32."""
    for node in list(graph):
        if node.name not in kept:
            continue
        for position, value in enumerate(node.inputs):
            array = constant(value)
            if array is None or array.dtype != np.float32:
                continue
            # Stored by name: two kept nodes may share a copy, not one with another.
            copy = Insertion(graph, before=node)("Identity", array.copy())
            node.replace_input_with(position, copy.producer().inputs[0])
            graph.remove(copy.producer())


def _remove_round_trips(graph: ir.Graph) -> None:
    """Joins kept nodes: between them the converter rounds to float16 and back."""
    for node in list(graph):
        if not _casts(node, ir.DataType.FLOAT):
            continue
        rounding = node.inputs[0].producer()
        if rounding is not None and _casts(rounding, ir.DataType.FLOAT16):
            source = rounding.inputs[0]
            if source.type == ir.TensorType(ir.DataType.FLOAT):
                node.outputs[0].replace_all_uses_with(source)


def _casts(node: ir.Node, dtype: ir.DataType) -> bool:
    return node.op_type == "Cast" and node.attributes["to"].as_int() == dtype
