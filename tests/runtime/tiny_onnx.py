"""Fusion models of one or two operations: fused = 0.5 visible + 0.5 infrared."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

SHAPES = {
    "float": (["b", 3, "h", "w"], ["b", 1, "h", "w"]),
    "camera": (["b", "h", "w", 3], ["b", "h", "w", 1]),
}


def write_student(
    path: Path, *, form: str = "camera", size: tuple[int, int] | None = None
) -> Path:
    """Writes a student of either form, for any size or for one (height, width)."""
    element = TensorProto.FLOAT if form == "float" else TensorProto.UINT8
    shapes = SHAPES[form]
    if size is not None:
        fixed = dict(zip("hw", size, strict=True))
        shapes = [[fixed.get(axis, axis) for axis in shape] for shape in shapes]
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    if form == "float":
        nodes = [
            helper.make_node("Add", ["visible", "infrared"], ["sum"]),
            helper.make_node("Mul", ["sum", "half"], ["fused"]),
        ]
    else:
        nodes = [
            helper.make_node("Cast", ["visible"], ["v"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["infrared"], ["i"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["v", "i"], ["sum"]),
            helper.make_node("Mul", ["sum", "half"], ["mean"]),
            helper.make_node("Round", ["mean"], ["rounded"]),
            helper.make_node("Cast", ["rounded"], ["fused"], to=TensorProto.UINT8),
        ]
    names = ("visible", "infrared")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, element, shape)
            for name, shape in zip(names, shapes, strict=True)
        ],
        [helper.make_tensor_value_info("fused", element, shapes[0])],
        [half],
    )
    save(graph, path)
    return path


def write_classifier(path: Path) -> Path:
    """Writes a valid ONNX model that is not a fusion model."""
    shape = [1, 3, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["logits"])],
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
    )
    save(graph, path)
    return path


def save(graph: onnx.GraphProto, path: Path) -> None:
    """Saves `graph` as an opset-17 model old runtimes read as well."""
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
