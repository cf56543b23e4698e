"""Parameters and multiply-adds of an ONNX file at one input size."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from fusionproxy_jax.errors import FusionProxyError

_COUNTED = ("Conv", "Gemm", "MatMul")
_INPUT_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise FusionProxyError(f"there is no ONNX file {path}")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    # The parser's and checker's exceptions share no base class below Exception.
    except Exception as error:
        raise FusionProxyError(f"{path} is damaged or no ONNX file") from error
    return model


def _run_shapes(
    model: onnx.ModelProto, names: list[str], *, height: int, width: int
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
        info = onnx.ValueInfoProto(name=node.output[0])
        probe.graph.output.append(info)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    sizes = {"B": 1, "H": height, "W": width}
    feeds = {
        node.name: np.zeros(
            [sizes[dim] if isinstance(dim, str) else dim for dim in node.shape],
            _INPUT_TYPES[node.type],
        )
        for node in session.get_inputs()
    }
    shapes = session.run(None, feeds)
    return {
        name: tuple(map(int, shape)) for name, shape in zip(names, shapes, strict=True)
    }


def _multiply_adds(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    left, right = (shapes[name] for name in node.input[:2])
    if node.op_type == "Conv":
        summed = math.prod(right[1:])
    else:
        transposed = {a.name: a.i for a in node.attribute}.get("transA", 0)
        summed = left[0] if transposed else left[-1]
    return math.prod(shapes[node.output[0]]) * summed


def onnx_complexity(path: Path, *, height: int, width: int) -> tuple[int, int]:
    """Returns (parameters, multiply-adds) of one image; Conv, Gemm and MatMul count.

    Args:
        path: A file of `fusionproxy export`: its inputs have the dimensions B, H, W.
        height: Taken for the dimension H.
        width: Taken for the dimension W.

    Raises:
        FusionProxyError: The file is missing, damaged, or takes other inputs.
    """
    model = _read(path)
    counted = [node for node in model.graph.node if node.op_type in _COUNTED]
    names = {name for node in counted for name in (node.output[0], *node.input[:2])}
    try:
        shapes = _run_shapes(model, sorted(names), height=height, width=width)
    # A missing dimension or type, or an exception of the runtime, without base class.
    except Exception as error:
        raise FusionProxyError(
            f"{path} cannot be run at {width}x{height} with inputs of dimensions B, H, "
            "W; describe takes files of `fusionproxy export`"
        ) from error
    parameters = sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims
    )
    return parameters, sum(_multiply_adds(node, shapes) for node in counted)
