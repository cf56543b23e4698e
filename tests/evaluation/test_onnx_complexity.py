import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny_graphs import CAMERA, FLOAT, with_size, write_fusion

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.onnx_complexity import (
    GraphCost,
    graph_cost,
    onnx_complexity,
)

# Of `write_fusion` with three channels.
PARAMETERS = 3 * 9 + 3
PER_PIXEL = 3 * 9


@pytest.mark.parametrize(
    "inputs",
    [
        FLOAT,
        CAMERA,
        (("rgbt", "float16", [1, 4, "height", "width"]),),
        with_size(FLOAT, 20, 28),
    ],
)
def test_any_image_graph_is_counted_by_hand(tmp_path, inputs):
    path = write_fusion(tmp_path / "m.onnx", inputs)
    cost = graph_cost(path, height=20, width=28)
    assert cost == GraphCost(PARAMETERS, 20 * 28 * PER_PIXEL, "float32")
    assert onnx_complexity(path, height=20, width=28) == (
        PARAMETERS,
        20 * 28 * PER_PIXEL,
    )


def _layer(tmp_path, op_type, weight, **attributes):
    """total -> (spread over channels) -> the layer -> mean over channels."""
    dtype = weight.dtype
    nodes = (
        helper.make_node("Concat", ["total"] * 4, ["spread"], axis=1),
        helper.make_node(op_type, ["spread", "w"], ["layer"], **attributes),
        helper.make_node("ReduceMean", ["layer"], ["changed"], axes=[1]),
    )
    assert dtype == np.float32
    return write_fusion(
        tmp_path / "m.onnx",
        FLOAT,
        extra_nodes=nodes,
        initializers=[numpy_helper.from_array(weight, "w")],
    )


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes", "expected"),
    [
        ("Conv", (6, 4, 1, 1), {}, 8 * 12 * 6 * 4),
        ("Conv", (6, 2, 1, 1), {"group": 2}, 8 * 12 * 6 * 2),
        # Each input pixel is multiplied with each weight once.
        ("ConvTranspose", (4, 5, 2, 2), {"strides": [2, 2]}, 8 * 12 * 4 * 5 * 2 * 2),
        ("MatMul", (12, 12), {}, 4 * 8 * 12 * 12),
    ],
)
def test_layers_equal_hand_counts(tmp_path, op_type, shape, attributes, expected):
    path = _layer(tmp_path, op_type, np.ones(shape, np.float32), **attributes)
    cost = graph_cost(path, height=8, width=12)
    # The last convolution sees the layer's size.
    scale = 4 if op_type == "ConvTranspose" else 1
    assert cost.multiply_adds == expected + scale * 8 * 12 * PER_PIXEL
    assert cost.parameters == PARAMETERS + np.prod(shape)


def _quantised(tmp_path, nodes, *arrays):
    return write_fusion(
        tmp_path / "int8.onnx",
        FLOAT,
        extra_nodes=nodes,
        initializers=[numpy_helper.from_array(array, name) for name, array in arrays],
    )


def test_quantised_layers_count_as_the_float_ones(tmp_path):
    weight = ("q", np.ones((6, 1, 3, 3), np.int8))
    scales = ("scales", np.ones(6, np.float32))
    zeros = ("zeros", np.zeros(6, np.int8))
    one, zero = ("one", np.float32(1)), ("zero", np.uint8(0))
    dequantised = _quantised(
        tmp_path,
        (
            helper.make_node(
                "DequantizeLinear", ["q", "scales", "zeros"], ["w"], axis=0
            ),
            helper.make_node("Conv", ["total", "w"], ["layer"], pads=[1, 1, 1, 1]),
            helper.make_node("ReduceMean", ["layer"], ["changed"], axes=[1]),
        ),
        weight,
        scales,
        zeros,
    )
    expected = GraphCost(
        PARAMETERS + 6 * 9, 8 * 12 * (6 * 9 + PER_PIXEL), weights="int8"
    )
    assert graph_cost(dequantised, height=8, width=12) == expected
    fused = _quantised(
        tmp_path,
        (
            helper.make_node("QuantizeLinear", ["total", "one", "zero"], ["x"]),
            helper.make_node(
                "QLinearConv",
                ["x", "one", "zero", "q", "scales", "zeros", "one", "zero"],
                ["y"],
                pads=[1, 1, 1, 1],
            ),
            helper.make_node("DequantizeLinear", ["y", "one", "zero"], ["layer"]),
            helper.make_node("ReduceMean", ["layer"], ["changed"], axes=[1]),
        ),
        weight,
        scales,
        zeros,
        one,
        zero,
    )
    assert graph_cost(fused, height=8, width=12) == expected


def test_constants_inside_the_graph_are_parameters_and_shapes_are_not(tmp_path):
    value = numpy_helper.from_array(np.ones((1, 1, 3, 5), np.float32))
    nodes = (
        helper.make_node("Constant", [], ["kernel"], value=value),
        helper.make_node("Conv", ["total", "kernel"], ["layer"], pads=[1, 2, 1, 2]),
        helper.make_node("Shape", ["total"], ["size"]),
        helper.make_node("Mul", ["size", "ones"], ["same"]),
        helper.make_node("Reshape", ["layer", "same"], ["changed"]),
    )
    ones = numpy_helper.from_array(np.ones(4, np.int64), "ones")
    path = write_fusion(
        tmp_path / "m.onnx", FLOAT, extra_nodes=nodes, initializers=[ones]
    )
    cost = graph_cost(path, height=8, width=12)
    assert cost.parameters == PARAMETERS + 15
    assert cost.multiply_adds == 8 * 12 * (15 + PER_PIXEL)


def test_a_function_of_the_file_is_counted_where_it_is_called(tmp_path):
    path = write_fusion(
        tmp_path / "m.onnx",
        FLOAT,
        extra_nodes=(
            helper.make_node("Twice", ["total"], ["changed"], domain="other"),
        ),
    )
    model = onnx.load(path)
    weight = helper.make_tensor("w", onnx.TensorProto.FLOAT, (1, 1, 1, 1), [0.5])
    model.functions.append(
        helper.make_function(
            "other",
            "Twice",
            ["x"],
            ["y"],
            [
                helper.make_node("Constant", [], ["w"], value=weight),
                helper.make_node("Conv", ["x", "w"], ["h"]),
                helper.make_node("Conv", ["h", "w"], ["y"]),
            ],
            [helper.make_opsetid("", 17)],
        )
    )
    onnx.save(model, path)
    cost = graph_cost(path, height=8, width=12)
    assert cost.multiply_adds == 8 * 12 * (2 + PER_PIXEL)


def test_what_cannot_be_counted_is_unknown_and_not_zero(tmp_path):
    einsum = helper.make_node(
        "Einsum", ["total", "total"], ["changed"], equation="bchw,bchw->bchw"
    )
    path = write_fusion(tmp_path / "m.onnx", FLOAT, extra_nodes=(einsum,))
    assert graph_cost(path, height=8, width=12) == GraphCost(
        PARAMETERS, None, "float32"
    )
    with pytest.raises(FusionProxyError, match="cannot be counted"):
        onnx_complexity(path, height=8, width=12)


def test_products_in_a_branch_make_the_count_unknown(tmp_path):
    value = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)
    kernel = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "inner")
    branches = [
        helper.make_graph([node], "branch", [], [value], [kernel])
        for node in (
            helper.make_node("Conv", ["total", "inner"], ["out"]),
            helper.make_node("Mul", ["total", "inner"], ["out"]),
        )
    ]
    nodes = (
        helper.make_node("ReduceMax", ["total"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["any"], to=onnx.TensorProto.BOOL),
        helper.make_node(
            "If", ["any"], ["changed"], then_branch=branches[0], else_branch=branches[1]
        ),
    )
    path = write_fusion(tmp_path / "m.onnx", FLOAT, extra_nodes=nodes)
    cost = graph_cost(path, height=8, width=12)
    # One kernel in each branch.
    assert cost == GraphCost(PARAMETERS + 2, None, "float32")


def test_another_size_than_the_graphs_own_is_refused(tmp_path):
    path = write_fusion(tmp_path / "m.onnx", with_size(FLOAT, 20, 28))
    with pytest.raises(FusionProxyError, match="takes 20x28 only, not 28x20"):
        graph_cost(path, height=28, width=20)
