"""Each rule on a graph written by hand: same values, fewer transposes."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from fusionproxy_jax.onnx_export import channels_first
from fusionproxy_jax.onnx_export.graph import tidy

_NODE = onnx.helper.make_node
_GENERATOR = np.random.default_rng(0)
_TO_NHWC, _TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


def _random(*shape):
    return _GENERATOR.standard_normal(shape).astype(np.float32)


def _model(nodes, outputs, **stored):
    """Returns a graph of maps `x` and `y`, [b, 4, h, w]."""
    sizes = ["b", 4, "h", "w"]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info(name, 1, sizes) for name in "xy"],
        [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in outputs.items()],
        [onnx.numpy_helper.from_array(a, name) for name, a in stored.items()],
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )


def _run(model):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pair = np.random.default_rng(1)
    feeds = {
        name: pair.standard_normal((2, 4, 5, 6)).astype(np.float32) for name in "xy"
    }
    return session.run(None, feeds)


def _changed(model, *rules):
    """Returns the graph after the rules, which is checked to compute the same."""
    changed = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    for rule in rules:
        rule(changed.graph)
    proto = ir.to_proto(tidy(changed))
    for ours, expected in zip(_run(proto), _run(model), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    return Counter(node.op_type for node in proto.graph.node)


_SUNK = (channels_first.sink_transposes, channels_first.cancel_transposes)


def test_a_dense_layer_over_channels_becomes_a_convolution():
    model = _model(
        [
            _NODE("Transpose", ["x"], ["t"], perm=_TO_NHWC),
            _NODE("Reshape", ["t", "rows"], ["flat"]),
            _NODE("Gemm", ["flat", "weights", "bias"], ["dense"]),
            _NODE("Shape", ["t"], ["size"]),
            _NODE("Slice", ["size", "zero", "three"], ["places"]),
            _NODE("Concat", ["places", "seven"], ["shape"], axis=0),
            _NODE("Reshape", ["dense", "shape"], ["map"]),
            _NODE("Transpose", ["map"], ["z"], perm=_TO_NCHW),
        ],
        {"z": ["b", 7, "h", "w"]},
        rows=np.array([-1, 4]),
        weights=_random(4, 7),
        bias=_random(7),
        zero=np.array([0]),
        three=np.array([3]),
        seven=np.array([7]),
    )
    # As the exporter tells it; inference does not follow computed shapes.
    model.graph.value_info.append(
        onnx.helper.make_tensor_value_info("map", 1, ["b", "h", "w", 7])
    )
    nodes = _changed(model, channels_first.dense_to_convolution, *_SUNK)
    assert nodes == {"Conv": 1}


def test_a_mean_over_places_becomes_a_pooling():
    model = _model(
        [
            _NODE("Transpose", ["x"], ["t"], perm=_TO_NHWC),
            _NODE("ReduceMean", ["t"], ["z"], axes=[1, 2], keepdims=0),
        ],
        {"z": ["b", 4]},
    )
    nodes = _changed(model, channels_first.pooled_mean, *_SUNK)
    assert nodes == {"GlobalAveragePool": 1, "Reshape": 1}


def test_weights_of_each_image_multiply_from_the_left():
    model = _model(
        [
            _NODE("Transpose", ["x"], ["t"], perm=_TO_NHWC),
            _NODE("ReduceMean", ["y"], ["one"], axes=[1, 2, 3], keepdims=1),
            _NODE("Squeeze", ["one", "last"], ["each"]),
            _NODE("Mul", ["each", "kernel"], ["weights"]),
            _NODE("Einsum", ["t", "weights"], ["e"], equation="bhwi,boi->bhwo"),
            _NODE("Add", ["e", "bias"], ["sum"]),
            _NODE("Transpose", ["sum"], ["z"], perm=_TO_NCHW),
        ],
        {"z": ["b", 3, "h", "w"]},
        last=np.array([3]),
        kernel=_random(1, 3, 4),
        bias=_random(1, 1, 1, 3),
    )
    nodes = _changed(model, channels_first.matrix_products, *_SUNK)
    assert nodes["MatMul"] == nodes["Add"] == 1
    assert nodes["Transpose"] == nodes["Einsum"] == 0


def test_a_product_with_stored_weights_multiplies_from_the_left_too():
    model = _model(
        [
            _NODE("Transpose", ["x"], ["t"], perm=_TO_NHWC),
            _NODE("Einsum", ["t", "weights"], ["e"], equation="abcd,de->abce"),
            _NODE("Transpose", ["e"], ["z"], perm=_TO_NCHW),
        ],
        {"z": ["b", 2, "h", "w"]},
        weights=_random(4, 2),
    )
    nodes = _changed(model, channels_first.matrix_products, *_SUNK)
    assert nodes["MatMul"] == 1 and nodes["Transpose"] == nodes["Einsum"] == 0


def test_transposes_pass_what_works_element_by_element_and_meet():
    model = _model(
        [
            _NODE("Transpose", ["x"], ["s"], perm=_TO_NHWC),
            _NODE("Transpose", ["y"], ["t"], perm=_TO_NHWC),
            _NODE("Relu", ["s"], ["r"]),
            _NODE("Mul", ["r", "gain"], ["m"]),
            _NODE("Sub", ["m", "t"], ["d"]),
            _NODE("Concat", ["d", "t"], ["both"], axis=3),
            _NODE("Slice", ["both", "start", "end", "axis"], ["cut"]),
            _NODE("Transpose", ["cut"], ["z"], perm=_TO_NCHW),
        ],
        {"z": ["b", 3, "h", "w"]},
        gain=_random(1, 1, 1, 4),
        start=np.array([2]),
        end=np.array([5]),
        axis=np.array([3]),
    )
    nodes = _changed(model, *_SUNK)
    assert nodes == dict.fromkeys(("Relu", "Mul", "Sub", "Concat", "Slice"), 1)


@pytest.mark.parametrize(
    "node",
    [
        # Rows are cut, not channels.
        _NODE("Slice", ["t", "one", "two", "one"], ["z"]),
        # One input is a map of another order.
        _NODE("Concat", ["t", "y"], ["z"], axis=0),
        _NODE("Softmax", ["t"], ["z"], axis=-1),
    ],
    ids=["rows", "mixed", "softmax"],
)
def test_what_depends_on_the_order_of_axes_is_left_alone(node):
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [_NODE("Transpose", ["x"], ["t"], perm=_TO_NHWC), node],
            "g",
            [onnx.helper.make_tensor_value_info(n, 1, [1, 4, 4, 4]) for n in "xy"],
            [onnx.helper.make_tensor_value_info("z", 1, None)],
            [
                onnx.numpy_helper.from_array(np.array([1]), "one"),
                onnx.numpy_helper.from_array(np.array([2]), "two"),
            ],
        )
    )
    graph = ir.from_proto(model).graph
    channels_first.sink_transposes(graph)
    assert [n.op_type for n in graph] == ["Transpose", node.op_type]


def test_a_network_with_layer_norm_is_not_one_of_convolutions_alone():
    for operator, expected in (("LayerNormalization", False), ("Relu", True)):
        model = ir.from_proto(_model([_NODE(operator, ["x"], ["z"])], {"z": None}))
        assert channels_first.is_convolutional(model.graph) is expected


def _dense(**changes):
    """Returns a dense layer over the channels of `x`, one thing changed."""
    stored = {
        "rows": np.array([-1, 4]),
        "weights": _random(4, 4),
        "bias": _random(4),
        "shape": np.array([2, 5, 6, 4]),
    }
    attributes = changes.pop("attributes", {})
    nodes = [
        _NODE("Transpose", ["x"], ["t"], perm=_TO_NHWC),
        _NODE("Reshape", ["t", "rows"], ["flat"]),
        _NODE("Gemm", ["flat", "weights", "bias"], ["dense"], **attributes),
        _NODE("Reshape", ["dense", "shape"], ["z"]),
    ]
    model = _model(nodes, {"z": None}, **(stored | changes))
    for value in model.graph.input:
        for dimension, length in zip(
            value.type.tensor_type.shape.dim, (2, 4, 5, 6), strict=True
        ):
            dimension.dim_value = length
    return model


def test_only_a_plain_dense_layer_over_channels_becomes_a_convolution():
    assert _changed(_dense(), channels_first.dense_to_convolution)["Conv"] == 1
    for change in (
        # Scaled, or with a bias of another shape.
        {"attributes": {"alpha": 2.0}},
        {"bias": _random(1, 4)},
        # Rows of two places, and results that lie in other places.
        {"rows": np.array([-1, 8]), "weights": _random(8, 8), "bias": _random(8)},
        {"shape": np.array([2, 6, 5, 4])},
        {"shape": np.array([60, 4])},
    ):
        nodes = _changed(_dense(**change), channels_first.dense_to_convolution)
        assert nodes["Gemm"] == 1 and nodes["Conv"] == 0, change


def test_a_mean_over_the_axes_of_a_matrix_is_left_alone():
    model = _model(
        [
            _NODE("Reshape", ["x", "shape"], ["m"]),
            _NODE("ReduceMean", ["m"], ["z"], axes=[1, 2], keepdims=1),
        ],
        {"z": None},
        shape=np.array([0, 4, -1]),
    )
    assert _changed(model, channels_first.pooled_mean)["ReduceMean"] == 1


def test_a_constant_for_each_row_is_no_bias_of_channels():
    model = _model(
        [
            _NODE("Transpose", ["x"], ["t"], perm=_TO_NHWC),
            _NODE("Einsum", ["t", "weights"], ["e"], equation="abcd,de->abce"),
            _NODE("Add", ["e", "rows"], ["z"]),
        ],
        {"z": None},
        weights=_random(4, 5),
        rows=_random(1, 5, 1, 1),
    )
    nodes = _changed(model, channels_first.matrix_products, *_SUNK)
    assert nodes["MatMul"] == nodes["Add"] == 1
