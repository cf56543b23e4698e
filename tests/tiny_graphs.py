"""ONNX graphs of a few operations with any image inputs, to be measured or refused."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

CAMERA = (
    ("visible", "uint8", ["B", "H", "W", 3]),
    ("infrared", "uint8", ["B", "H", "W", 1]),
)
FLOAT = (
    ("visible", "float32", ["B", 3, "H", "W"]),
    ("infrared", "float32", ["B", 1, "H", "W"]),
)


def element_type(dtype: str) -> int:
    """Returns ONNX's number of a NumPy type."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def write_fusion(
    path: Path, inputs=FLOAT, *, channels: int = 3, extra_nodes=(), initializers=()
) -> Path:
    """Writes fused = Conv3x3(sum over inputs of their mean over channels).

    The output, `fused`, has the layout and type of the first input and `channels`
    channels. The convolution has 9 `channels` weights and `channels` biases.
    `extra_nodes` may change `total` into `changed` before the convolution.
    """
    generator = np.random.default_rng(0)
    nodes, means = [], []
    for index, (name, _, shape) in enumerate(inputs):
        axis = 1 if shape[1] in (1, 2, 3, 4) else 3
        nodes.append(
            helper.make_node("Cast", [name], [f"float{index}"], to=element_type("f4"))
        )
        nodes.append(
            helper.make_node(
                "ReduceMean", [f"float{index}"], [f"mean{index}"], axes=[axis]
            )
        )
        means.append(f"mean{index}")
        if axis == 3:
            nodes.append(
                helper.make_node(
                    "Transpose", [f"mean{index}"], [f"nchw{index}"], perm=[0, 3, 1, 2]
                )
            )
            means[-1] = f"nchw{index}"
    nodes += [
        helper.make_node("Sum", means, ["total"]),
        *extra_nodes,
        helper.make_node(
            "Conv",
            ["changed" if extra_nodes else "total", "weight", "bias"],
            ["convolved"],
            pads=[1, 1, 1, 1],
        ),
    ]
    name, dtype, shape = inputs[0]
    last = "convolved"
    if shape[1] not in (1, 2, 3, 4):
        nodes.append(helper.make_node("Transpose", [last], ["nhwc"], perm=[0, 2, 3, 1]))
        last, out_shape = "nhwc", [*shape[:3], channels]
    else:
        out_shape = [shape[0], channels, *shape[2:]]
    nodes.append(helper.make_node("Cast", [last], ["fused"], to=element_type(dtype)))
    weight = 0.1 * generator.random((channels, 1, 3, 3), np.float32)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, element_type(dtype), shape)
            for name, dtype, shape in inputs
        ],
        [helper.make_tensor_value_info("fused", element_type(dtype), out_shape)],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.zeros(channels, np.float32), "bias"),
            *initializers,
        ],
    )
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("other", 1)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, path)
    return path


def with_size(inputs, height: int, width: int):
    """Returns `inputs` of one fixed size."""
    fixed = {"H": height, "W": width}
    return tuple(
        (name, dtype, [fixed.get(axis, axis) for axis in shape])
        for name, dtype, shape in inputs
    )


def write_strided_conv(path, seed: int = 0) -> str:
    """Writes a convolution, 4 px wide, to 5 channels; returns its panel entry."""
    kernel = np.random.default_rng(seed).normal(size=(5, 3, 4, 4)).astype(np.float32)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", ["x", "w"], ["y"], strides=[4, 4])],
            "network",
            [onnx.helper.make_tensor_value_info("x", 1, [1, 3, "h", "w"])],
            [onnx.helper.make_tensor_value_info("y", 1, [1, 5, "a", "b"])],
            [onnx.numpy_helper.from_array(kernel, "w")],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
    )
    onnx.save(model, path)
    return f"onnx:{path}#y"
