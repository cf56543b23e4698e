"""Forms of one batch and one size, for compilers that want every shape as a number.

TensorRT, phones and NPUs plan memory ahead; a graph that computes with its own sizes
costs them speed or is refused. Here sizes become constants, and padding to the stride
disappears where the size is a multiple of it.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from fusionproxy_jax.onnx_export.graph import attribute, constant, replace, tidy

# Results of this many numbers or fewer are stored. Arithmetic on sizes yields a few;
# more are a map of constants, which is cheaper to make than to read.
_MOST_STORED = 64
# Multiples of every stride: what has another shape in the second is a map.
_PROBED_SIZES_PX = ((128, 256), (256, 384))


def fixed_size(model: onnx.ModelProto, height: int, width: int) -> onnx.ModelProto:
    """Returns `model` for a single pair of height x width.

    The file tells the shape of every value, and keeps operators, types, weights and
    metadata, to which `size` is added.

    Args:
        model: A finished form with the free axes B, H and W.
        height: At least 16 px, as width.
        width: See height.
    """
    fixed = resolve_sizes(model, {"B": 1, "H": height, "W": width})
    _remove_idle(fixed.graph)
    fixed = tidy(fixed)
    fixed.metadata_props["size"] = f"{height}x{width}"
    proto = _with_shapes(fixed)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def resolve_sizes(model: onnx.ModelProto, axes: Mapping[str, int]) -> ir.Model:
    """Returns `model` with free axes set and all arithmetic on sizes folded.

    Values keep their names; all have a shape. Nodes that computed sizes are unused.

    Args:
        model: A valid model; not changed.
        axes: Length by name of the axis.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    for value in (*proto.graph.input, *proto.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in axes:
                axis.dim_value = axes[axis.dim_param]
    # Shapes that were inferred for free axes would contradict those for fixed ones.
    del proto.graph.value_info[:]
    resolved = ir.from_proto(proto)
    # A folded size lets the next inference see the shapes behind it.
    while _fold_sizes((inferred := ir.from_proto(_with_shapes(resolved))).graph):
        resolved = inferred
    return inferred


def map_names(model: onnx.ModelProto) -> set[str]:
    """Returns the names of the values that are larger for larger images."""
    small, large = (
        {
            value.name: value.shape
            for node in resolve_sizes(model, {"B": 1, "H": height, "W": width}).graph
            for value in node.outputs
        }
        for height, width in _PROBED_SIZES_PX
    )
    inputs = {value.name for value in model.graph.input}
    return inputs | {name for name in small if small[name] != large[name]}


def _with_shapes(model: ir.Model) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(
        ir.to_proto(model), check_type=True, strict_mode=True, data_prop=True
    )


def _fold_sizes(graph: ir.Graph) -> bool:
    """Stores sizes that are known by now and what is computed from them alone."""
    folded = False
    from_sizes: set[ir.Value] = set()
    for node in list(graph):
        if not node.outputs[0].uses():
            continue
        if node.op_type == "Shape":
            result = _shape(node)
        elif from_sizes.intersection(node.inputs) and all(
            value is None or constant(value) is not None for value in node.inputs
        ):
            result = _evaluate(node)
        else:
            continue
        if result is None or result.size > _MOST_STORED:
            continue
        stored = _store(graph, node.outputs[0], result)
        from_sizes.add(stored)
        folded = True
    return folded


def _shape(node: ir.Node) -> np.ndarray | None:
    shape = node.inputs[0].shape
    if shape is None or not all(isinstance(length, int) for length in shape):
        return None
    part = slice(attribute(node, "start"), attribute(node, "end"))
    return np.array(list(shape)[part], np.int64)


def _evaluate(node: ir.Node) -> np.ndarray:
    inputs = {value.name: constant(value) for value in node.inputs if value is not None}
    evaluator = ReferenceEvaluator(ir.to_proto(node))
    return np.asarray(evaluator.run(None, inputs)[0])


def _store(graph: ir.Graph, value: ir.Value, array: np.ndarray) -> ir.Value:
    name = f"{value.name}_folded"
    stored = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    stored.shape = ir.Shape(array.shape)
    stored.type = ir.TensorType(stored.const_value.dtype)
    graph.register_initializer(stored)
    value.replace_all_uses_with(stored)
    return stored


def _remove_idle(graph: ir.Graph) -> None:
    """Takes out what changes nothing at this size: padding by 0, cuts of nothing."""
    for node in list(graph):
        if node.op_type in ("Pad", "Slice", "Reshape", "Expand") and (
            _is_known(node.inputs[0].shape)
            and node.inputs[0].shape == node.outputs[0].shape
            # A slice of the whole length may still go backwards.
            and (node.op_type != "Slice" or _goes_forward(node))
        ):
            replace(node.outputs[0], node.inputs[0])
            graph.remove(node, safe=True)


def _is_known(shape: ir.Shape | None) -> bool:
    return shape is not None and all(isinstance(length, int) for length in shape)


def _goes_forward(node: ir.Node) -> bool:
    if len(node.inputs) < 5 or node.inputs[4] is None:
        return True
    steps = constant(node.inputs[4])
    return steps is not None and bool((steps > 0).all())
