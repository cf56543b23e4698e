import functools
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from tiny_deployed import camera_pairs, float32_models, interface, properties

from fusionproxy_jax.evaluation.deployed_form import DeployedForm
from fusionproxy_jax.evaluation.parity import measure_parity
from fusionproxy_jax.onnx_export.fixed_size import fixed_size
from fusionproxy_jax.onnx_export.int8 import Int8Options, int8_nodes, quantize


@functools.cache
def _quantized(file="light_camera.onnx", **options) -> onnx.ModelProto:
    return quantize(float32_models()[file], camera_pairs(), Int8Options(**options))


def _psnr(model, file="light_camera.onnx"):
    reference, form = (
        DeployedForm(name, given.SerializeToString(), threads=1)
        for name, given in (("float32", float32_models()[file]), ("int8", model))
    )
    (parity,) = measure_parity(
        reference, [form], camera_pairs(), metrics=False, extreme_sizes=[(48, 64)]
    )
    assert not parity.not_finite
    return parity.psnr_db


def _optimized(model, path) -> Counter:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("file", ["light.onnx", "light_camera.onnx"])
def test_an_int8_form_is_close_on_the_pairs_it_was_fitted_to(file):
    assert _psnr(_quantized(file), file) > 38


def test_onnx_runtime_computes_the_layers_in_int8(tmp_path):
    nodes = _optimized(_quantized(), tmp_path / "optimized.onnx")
    convolutions = sum(
        node.op_type == "Conv"
        for node in float32_models()["light_camera.onnx"].graph.node
    )
    # All but the two that read the images.
    assert nodes["QLinearConv"] == convolutions - 2
    assert nodes["Conv"] + nodes["FusedConv"] == 2
    assert nodes["QLinearMatMul"] == nodes["QLinearGlobalAveragePool"] == 3


def test_an_int8_form_keeps_its_interface_and_origin():
    model, quantized = float32_models()["light_camera.onnx"], _quantized()
    assert interface(quantized) == interface(model)
    assert properties(quantized) == properties(model)
    assert [(o.domain, o.version) for o in quantized.opset_import] == [("", 17)]
    assert quantized.ir_version == 8 and quantized.graph.name == model.graph.name
    assert quantized.producer_name == "fusionproxy-jax"


def test_weights_have_a_scale_per_channel():
    quantized = _quantized()
    dims = {t.name: list(t.dims) for t in quantized.graph.initializer}
    types = {t.name: t.data_type for t in quantized.graph.initializer}
    weights = [
        node.input
        for node in quantized.graph.node
        if node.op_type == "DequantizeLinear"
        and types.get(node.input[0]) == onnx.TensorProto.INT8
    ]
    assert len(weights) > 10
    for name, scale, _ in weights:
        assert dims[scale] == [dims[name][0]]


def test_what_the_options_name_stays_float32(tmp_path):
    plain = _optimized(_quantized(), tmp_path / "plain.onnx")["QLinearConv"]
    last = _quantized(float_last=True)
    assert _optimized(last, tmp_path / "last.onnx")["QLinearConv"] == plain - 1
    assert _psnr(last) > _psnr(_quantized())
    stems = _quantized(float_stems=False)
    assert _optimized(stems, tmp_path / "stems.onnx")["QLinearConv"] == plain + 2
    heads = _optimized(_quantized(float_heads=True), tmp_path / "heads.onnx")
    assert heads["QLinearMatMul"] == 0 and heads["MatMul"] == 3


def test_sizes_are_read_from_int8_maps():
    graph = _quantized().graph
    converted = {
        node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"
    }
    read = [node.input[0] for node in graph.node if node.op_type == "Shape"]
    assert read and not converted.intersection(read)


def test_an_int8_form_can_have_one_size():
    fixed = fixed_size(_quantized(), 48, 64)
    assert not any(node.op_type == "Shape" for node in fixed.graph.node)
    image = np.zeros((48, 64, 3), np.uint8) + np.arange(64, dtype=np.uint8)[:, None]
    pair = (image, image[..., 0])
    given, wanted = (
        DeployedForm("form", form.SerializeToString(), threads=1)(*pair)
        for form in (fixed, _quantized())
    )
    assert wanted.std() > 1
    assert np.abs(given - wanted).mean() < 0.1


def test_only_layers_and_what_follows_them_are_chosen():
    """A depthwise convolution of floats, and images added, are left alone."""
    names = ("dense", "depthwise", "last")
    shapes = {"dense": (4, 3, 1, 1), "depthwise": (4, 1, 3, 3), "last": (3, 4, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["visible", "w_dense"], ["a"], name="stem"),
        helper.make_node("Sigmoid", ["a"], ["b"], name="sigmoid"),
        helper.make_node(
            "Conv", ["b", "w_depthwise"], ["c"], name="depthwise", group=4, pads=[1] * 4
        ),
        helper.make_node("Conv", ["c", "w_last"], ["d"], name="last"),
        helper.make_node("Add", ["visible", "d"], ["fused"], name="residual"),
    ]
    axes = ["B", 3, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("visible", 1, axes)],
        [helper.make_tensor_value_info("fused", 1, axes)],
        [
            numpy_helper.from_array(np.ones(shapes[name], np.float32), f"w_{name}")
            for name in names
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert int8_nodes(model) == ["last"]
    assert int8_nodes(model, Int8Options(float_stems=False)) == ["stem", "last"]
    # Behind a result in int8 the depthwise one is worth it.
    nodes[1].op_type = "Relu"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert int8_nodes(model) == ["sigmoid", "depthwise", "last"]
