import numpy as np
import pytest
from onnx import helper, numpy_helper
from tiny_graphs import CAMERA, write_fusion

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.memory import measure_peak_memory
from fusionproxy_jax.evaluation.memory_probe import forget_peak, resident_bytes
from fusionproxy_jax.evaluation.runners import RunnerOptions

NUM_BYTES = 128 * 2**20


def _measure(path):
    options = RunnerOptions(threads=1)
    return measure_peak_memory(
        path, runtime="onnxruntime", options=options, height=16, width=24
    )


def test_a_large_value_inside_the_graph_shows_and_nothing_else(tmp_path):
    # total + 0 * mean(total spread over many elements)
    spread = (
        helper.make_node("ReduceMean", ["total"], ["level"], keepdims=0),
        helper.make_node("Expand", ["level", "many"], ["large"]),
        helper.make_node("ReduceMean", ["large"], ["again"], keepdims=0),
        helper.make_node("Add", ["total", "again"], ["changed"]),
    )
    many = numpy_helper.from_array(np.array([NUM_BYTES // 4], np.int64), "many")
    large = _measure(
        write_fusion(
            tmp_path / "large.onnx", CAMERA, extra_nodes=spread, initializers=[many]
        )
    )
    small = _measure(write_fusion(tmp_path / "small.onnx", CAMERA))
    assert large.keys() == small.keys() == {"network", "end to end"}
    for growth in (large, small):
        assert 0 < growth["network"] <= growth["end to end"]
    assert large["network"] >= NUM_BYTES > 2 * small["end to end"]


def test_a_process_that_fails_is_one_sentence(tmp_path):
    with pytest.raises(FusionProxyError, match="at 16x24 was not measured.*no ONNX fi"):
        _measure(tmp_path / "none.onnx")


def test_a_forgotten_peak_is_the_present_size():
    np.ones(NUM_BYTES, np.uint8)
    assert resident_bytes("VmHWM") - resident_bytes("VmRSS") > NUM_BYTES / 2
    forget_peak()
    assert resident_bytes("VmHWM") - resident_bytes("VmRSS") < NUM_BYTES / 2
    assert resident_bytes("VmNone") is None
