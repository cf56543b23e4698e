import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny_deployed import float32_models

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.graph_images import camera_noise
from fusionproxy_jax.onnx_export.form_checks import (
    check_fixed,
    check_float16,
    check_int8,
)
from fusionproxy_jax.onnx_export.half_precision import half_precision

AXES = ["B", 3, "H", "W"]


def _scaled(factor: float, offset: float = 0.0) -> onnx.ModelProto:
    """Returns fused = visible * factor / factor + offset + 0 * infrared."""
    nodes = [
        helper.make_node("Mul", ["visible", "factor"], ["large"], name="up"),
        helper.make_node("Div", ["large", "factor"], ["unit"], name="down"),
        helper.make_node("Mul", ["infrared", "zero"], ["nothing"], name="none"),
        helper.make_node("Sum", ["unit", "nothing", "offset"], ["fused"], name="sum"),
    ]
    constants = {"factor": factor, "offset": offset, "zero": 0.0}
    graph = helper.make_graph(
        nodes,
        "scaled",
        [
            helper.make_tensor_value_info("visible", 1, AXES),
            helper.make_tensor_value_info("infrared", 1, ["B", 1, "H", "W"]),
        ],
        [helper.make_tensor_value_info("fused", 1, AXES)],
        [numpy_helper.from_array(np.float32(v), k) for k, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def test_float16_is_refused_where_values_pass_its_end():
    assert check_float16("a.onnx", half_precision(_scaled(8)), _scaled(8))
    loud = _scaled(1e5)
    with pytest.raises(FusionProxyError, match="its value large reaches 1e.05"):
        check_float16("a.onnx", half_precision(loud), loud)


def test_float16_is_refused_where_it_is_another_image():
    half = half_precision(_scaled(1, offset=0.01))
    with pytest.raises(FusionProxyError, match=r"differs by 2.55 levels on average"):
        check_float16("a.onnx", half, _scaled(1))
    broken = _scaled(1, offset=float("nan"))
    with pytest.raises(FusionProxyError, match="inf or NaN for white"):
        check_float16("a.onnx", half_precision(broken), _scaled(1))


def test_int8_is_refused_below_the_wanted_psnr():
    pairs = [("noise", camera_noise(48, 64))]
    form = _scaled(1, offset=0.01)
    told = check_int8("a.onnx", form, _scaled(1), pairs, min_psnr_db=39.9)
    assert told == "mean error 2.550 levels, PSNR 40.0 dB"
    with pytest.raises(FusionProxyError, match=r"40.0 dB .* on 1 .* 41 dB are wanted"):
        check_int8("a.onnx", form, _scaled(1), pairs, min_psnr_db=41)
    assert check_int8("a.onnx", form, form, pairs, min_psnr_db=99) == "no difference"
    broken = _scaled(1, offset=float("nan"))
    with pytest.raises(FusionProxyError, match="-inf dB"):
        check_int8("a.onnx", broken, _scaled(1), pairs, min_psnr_db=38)


def test_a_fixed_size_is_refused_where_it_changes_the_image():
    model = float32_models()["light.onnx"]
    assert check_fixed("a.onnx", model, model, (48, 64)) == "no difference"
    with pytest.raises(FusionProxyError, match="from the form of free size by 2.6"):
        check_fixed("a.onnx", _scaled(1, offset=0.01), _scaled(1), (48, 64))
