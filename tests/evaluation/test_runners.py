import sys
import types

import numpy as np
import onnxruntime
import pytest
from tiny_graphs import FLOAT, write_fusion

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.image_graph import GraphValue
from fusionproxy_jax.evaluation.runners import (
    RunnerOptions,
    first_line,
    open_graph,
)


def _open(path, runtime="onnxruntime", **options):
    return open_graph(
        path, runtime=runtime, options=RunnerOptions(threads=1, **options)
    )


def test_inputs_and_outputs_are_told_with_free_axes(tmp_path):
    opened = _open(write_fusion(tmp_path / "m.onnx"))
    assert opened.inputs == (
        GraphValue("visible", "float32", (None, 3, None, None)),
        GraphValue("infrared", "float32", (None, 1, None, None)),
    )
    assert [output.name for output in opened.outputs] == ["fused"]


def test_options_reach_the_session_and_leave_the_result(tmp_path, monkeypatch):
    path = write_fusion(tmp_path / "m.onnx")
    seen = []
    session = onnxruntime.InferenceSession

    def opened(model, options, **rest):
        seen.append(options)
        return session(model, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    feeds = {name: np.ones((1, shape[1], 4, 6), np.float32) for name, _, shape in FLOAT}
    results = [
        _open(path, arena=arena, graph_level=level).run(feeds, ["fused"])[0]
        for arena, level in [(True, "all"), (False, "basic"), (False, "extended")]
    ]
    assert [options.enable_cpu_mem_arena for options in seen] == [True, False, False]
    levels = [options.graph_optimization_level.name for options in seen]
    assert levels == ["ORT_ENABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"]
    assert {options.intra_op_num_threads for options in seen} == {1}
    stopped = "session.force_spinning_stop"
    assert {options.get_session_config_entry(stopped) for options in seen} == {"1"}
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-6)


def test_what_cannot_be_opened_is_one_sentence(tmp_path):
    with pytest.raises(FusionProxyError, match="there is no ONNX file"):
        _open(tmp_path / "none.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no graph")
    with pytest.raises(FusionProxyError, match="damaged.onnx is damaged or no") as told:
        _open(damaged)
    assert "\n" not in str(told.value)


def test_openvino_that_is_missing_or_given_foreign_options_is_one_sentence(
    tmp_path, monkeypatch
):
    path = write_fusion(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(FusionProxyError, match=r"pip install.*\[openvino\]"):
        _open(path, "openvino")
    for options in ({"arena": False}, {"graph_level": "basic"}):
        with pytest.raises(FusionProxyError, match="no --no-arena and no --graph-lev"):
            _open(path, "openvino", **options)


class _Port:
    def __init__(self, name, element, lengths):
        self.get_any_name = lambda: name
        self.get_element_type = lambda: types.SimpleNamespace(
            get_type_name=lambda: element
        )
        axes = [
            types.SimpleNamespace(
                is_dynamic=length is None, get_length=lambda length=length: length
            )
            for length in lengths
        ]
        self.get_partial_shape = lambda: _Shape(axes)


class _Shape(list):
    rank = types.SimpleNamespace(is_static=True)


def test_openvino_computes_in_float32_with_the_threads_given(tmp_path, monkeypatch):
    asked = []

    class Compiled:
        inputs = [_Port("v", "u8", [None, None, None, 3])]
        outputs = [_Port("fused", "f16", [1, 3, 4, 5])]

        def create_infer_request(self):
            def infer(feeds, share_inputs):
                asked.append(share_inputs)
                return {"fused": feeds["v"] + 1}

            return types.SimpleNamespace(infer=infer)

    class Core:
        def read_model(self, path):
            return path

        def compile_model(self, model, device, settings):
            asked.extend([model.name, device, settings])
            return Compiled()

    module = types.ModuleType("openvino")
    module.Core = Core
    monkeypatch.setitem(sys.modules, "openvino", module)
    opened = _open(write_fusion(tmp_path / "m.onnx"), "openvino")
    assert opened.inputs == (GraphValue("v", "uint8", (None, None, None, 3)),)
    assert opened.outputs == (GraphValue("fused", "float16", (1, 3, 4, 5)),)
    assert opened.run({"v": 1}, ["fused"]) == [2]
    name, device, settings, share_inputs = asked
    assert (name, device, share_inputs) == ("m.onnx", "CPU", True)
    assert settings["INFERENCE_PRECISION_HINT"] == "f32"
    assert settings["INFERENCE_NUM_THREADS"] == 1


def test_a_message_is_its_first_line_that_says_something():
    assert first_line(ValueError("\n  wrong  \nmore")) == "wrong"
    assert first_line(KeyError()) == "KeyError"
