"""Parameters of an ONNX graph, in floats and quantised, by their element type."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator

import onnx

# Positions of integers that are parameters; other integers are shapes and indices.
_QUANTISED = {
    "DequantizeLinear": (0,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (3,),
    "ConvInteger": (1,),
    "MatMulInteger": (1,),
}
# Positions of floats that are scales of a quantisation.
_SCALES = {
    "DequantizeLinear": (1,),
    "QuantizeLinear": (1,),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
}


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yields the graph and those of its branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [
                *attribute.graphs,
                *([attribute.g] if attribute.g.node else []),
            ]:
                yield from graphs_of(inner)


def _named_inputs(model: onnx.ModelProto, positions: dict[str, tuple]) -> set[str]:
    nodes = itertools.chain.from_iterable(
        graph.node for graph in graphs_of(model.graph)
    )
    return {
        node.input[position]
        for node in nodes
        for position in positions.get(node.op_type, ())
        if position < len(node.input)
    }


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], attribute.t


def parameters_by_type(model: onnx.ModelProto) -> Counter[str]:
    """Returns the number of parameters by NumPy's name of their element type."""
    quantised = _named_inputs(model, _QUANTISED)
    scales = _named_inputs(model, _SCALES)
    elements: Counter[str] = Counter()
    for graph in graphs_of(model.graph):
        for name, tensor in _constants(graph):
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            is_float = "float" in dtype.name
            # A scalar is an epsilon or a bound.
            if tensor.dims and (name in quantised or (is_float and name not in scales)):
                elements[dtype.name] += math.prod(tensor.dims)
    return elements
