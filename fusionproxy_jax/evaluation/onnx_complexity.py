"""Parameters and multiply-adds of an ONNX file at one input size.

Convolutions and matrix products count, in floats and quantised; normalisation,
activations and interpolation do not.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.graph_images import to_tensors
from fusionproxy_jax.evaluation.image_graph import read_image_graph
from fusionproxy_jax.evaluation.onnx_parameters import graphs_of, parameters_by_type
from fusionproxy_jax.evaluation.runners import (
    RunnerOptions,
    first_line,
    open_onnxruntime,
)
from fusionproxy_jax.runtime.cores import num_physical_cores

# Positions of the two factors among the inputs.
_PRODUCTS = {
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "ConvInteger": (0, 1),
    "QLinearConv": (0, 3),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
}
_NOT_COUNTABLE = ("Attention", "DeformConv", "Einsum", "GRU", "LSTM", "RNN")
_STANDARD_DOMAINS = ("", "ai.onnx")
# Of other domains, these hold no product; what is not known may.
_WITHOUT_PRODUCT = ("DequantizeLinear", "Gelu", "QuantizeLinear")


@dataclass(frozen=True)
class GraphCost:
    """What a graph costs for one image.

    Attributes:
        parameters: Number of parameters.
        multiply_adds: Multiplications, each with its addition; None where an operator
            or a branch of the graph cannot be counted.
        weights: Element type of most parameters, as NumPy names it.
    """

    parameters: int
    multiply_adds: int | None
    weights: str


def graph_cost(path: Path, *, height: int, width: int) -> GraphCost:
    """Returns what the graph of `path` costs for images of one size.

    Raises:
        FusionProxyError: The file is missing, damaged, takes no images (see
            `image_graph`) or not those of this size.
    """
    model = _read(path)
    elements = parameters_by_type(model)
    return GraphCost(
        parameters=elements.total(),
        multiply_adds=_all_multiply_adds(path, model, height, width),
        weights=elements.most_common(1)[0][0] if elements else "none",
    )


def onnx_complexity(path: Path, *, height: int, width: int) -> tuple[int, int]:
    """Returns (parameters, multiply-adds) of one image.

    Raises:
        FusionProxyError: As for `graph_cost`, or not all of it can be counted.
    """
    cost = graph_cost(path, height=height, width=width)
    if cost.multiply_adds is None:
        raise FusionProxyError(
            f"{path} holds operators whose multiply-adds cannot be counted; describe "
            f"counts {', '.join(_PRODUCTS)} outside of branches"
        )
    return cost.parameters, cost.multiply_adds


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise FusionProxyError(f"there is no ONNX file {path}")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
    # The parser's and checker's exceptions share no base class below Exception.
    except Exception as error:
        raise FusionProxyError(f"{path} is damaged or no ONNX file") from error
    return model


def _is_countable(model: onnx.ModelProto) -> bool:
    outer, *inner = graphs_of(model.graph)
    return not any(
        node.op_type in _NOT_COUNTABLE
        or (
            node.domain not in _STANDARD_DOMAINS
            and node.op_type not in _WITHOUT_PRODUCT
        )
        for node in outer.node
    ) and not any(node.op_type in _PRODUCTS for graph in inner for node in graph.node)


def _all_multiply_adds(
    path: Path, model: onnx.ModelProto, height: int, width: int
) -> int | None:
    if not _is_countable(model):
        return None
    counted = [node for node in model.graph.node if node.op_type in _PRODUCTS]
    if not counted:
        return 0
    names = {name for node in counted for name in (node.output[0], *_factors(node))}
    shapes = _run_shapes(path, model, sorted(names), height=height, width=width)
    return sum(_multiply_adds(node, shapes) for node in counted)


def _factors(node: onnx.NodeProto) -> tuple[str, str]:
    left, right = _PRODUCTS[node.op_type]
    return node.input[left], node.input[right]


def _run_shapes(
    path: Path, model: onnx.ModelProto, names: list[str], *, height: int, width: int
) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the named values in one run on black images.

    Sizes are computed in the graph, so that shape inference leaves them open.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    for index, name in enumerate(names):
        node = onnx.helper.make_node("Shape", [name], [f"probed_shape_{index}"])
        probe.graph.node.append(node)
        probe.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    try:
        opened = open_onnxruntime(
            probe.SerializeToString(), RunnerOptions(threads=num_physical_cores())
        )
        graph = read_image_graph(str(path), opened.inputs, opened.outputs)
        graph.check_size(height, width)
        black = np.zeros((height, width, 3), np.uint8)
        feeds = to_tensors(graph, black, black[..., 0])
        shapes = opened.run(feeds, [output.name for output in opened.outputs])
    except FusionProxyError:
        raise
    # Exceptions of the runtime, without base class.
    except Exception as error:
        raise FusionProxyError(
            f"{path} cannot be run at {height}x{width} ({first_line(error)}); give a "
            "size it takes"
        ) from error
    return {
        name: tuple(map(int, shape)) for name, shape in zip(names, shapes, strict=True)
    }


def _multiply_adds(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    left, right = (shapes[name] for name in _factors(node))
    if node.op_type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    if "Conv" in node.op_type:
        summed = math.prod(right[1:])
    else:
        transposed = {a.name: a.i for a in node.attribute}.get("transA", 0)
        summed = left[0] if transposed else left[-1]
    return math.prod(shapes[node.output[0]]) * summed
