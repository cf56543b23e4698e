import numpy as np
import pytest
from tiny_graphs import CAMERA, FLOAT, with_size, write_fusion

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.callables import measure_callables
from fusionproxy_jax.evaluation.candidates import GraphFile
from fusionproxy_jax.evaluation.graph_images import camera_noise
from fusionproxy_jax.evaluation.runners import RunnerOptions


def _file(path):
    options = RunnerOptions(threads=1)
    return GraphFile("name", path, runtime="onnxruntime", options=options)


@pytest.mark.parametrize("inputs", [FLOAT, CAMERA])
def test_end_to_end_is_the_network_with_its_conversions(tmp_path, inputs):
    candidate = _file(write_fusion(tmp_path / "m.onnx", inputs))
    visible, infrared = camera_noise(8, 12)
    calls = candidate.calls(visible, infrared)
    fused, image = calls["network"](), calls["end to end"]()
    if inputs is FLOAT:
        levels = np.rint(255 * np.clip(fused[0].transpose(1, 2, 0), 0, 1))
        np.testing.assert_array_equal(image, levels)
    else:
        np.testing.assert_array_equal(image, fused[0])
    assert image.shape == (8, 12, 3) and image.dtype == np.uint8
    assert image.std() > 1


def test_each_end_to_end_call_converts_anew(tmp_path):
    candidate = _file(write_fusion(tmp_path / "m.onnx", CAMERA))
    visible, infrared = camera_noise(8, 12)
    calls = candidate.calls(visible.copy(), infrared)
    stale, fresh = calls["network"]().copy(), calls["end to end"]()
    np.testing.assert_array_equal(stale[0], fresh)


def test_a_fixed_size_is_the_candidates(tmp_path):
    path = write_fusion(tmp_path / "m.onnx", with_size(FLOAT, 8, 12))
    candidate = _file(path)
    assert candidate.fixed_size == (8, 12)
    with pytest.raises(FusionProxyError, match="takes 8x12 only"):
        candidate.calls(*camera_noise(12, 8))


def test_a_graph_that_fails_at_a_size_is_one_sentence(tmp_path):
    from onnx import helper, numpy_helper

    shape = numpy_helper.from_array(np.array([1, 1, 8, 12], np.int64), "shape")
    reshape = helper.make_node("Reshape", ["total", "shape"], ["changed"])
    candidate = _file(
        write_fusion(
            tmp_path / "m.onnx", FLOAT, extra_nodes=(reshape,), initializers=[shape]
        )
    )
    candidate.calls(*camera_noise(8, 12))
    with pytest.raises(FusionProxyError, match=r"cannot fuse 8x13 \(") as told:
        candidate.calls(*camera_noise(8, 13))
    assert "\n" not in str(told.value)


def test_cost_without_onnx_is_one_sentence(tmp_path, monkeypatch):
    candidate = _file(write_fusion(tmp_path / "m.onnx"))
    assert candidate.cost(8, 12).multiply_adds == 8 * 12 * 27
    monkeypatch.setattr(
        "fusionproxy_jax.evaluation.candidates.importlib.util.find_spec",
        lambda name: None,
    )
    with pytest.raises(FusionProxyError, match="with the package onnx; run pip"):
        candidate.cost(8, 12)


def test_python_functions_are_timed_on_camera_images():
    now, calls = [0.0], []

    def fuse(name, seconds):
        def fused(visible, infrared):
            calls.append((name, visible.shape, infrared.shape, visible.dtype))
            now[0] += seconds
            return visible

        return fused

    rows = measure_callables(
        {"one": fuse("one", 0.1), "two": fuse("two", 0.25)},
        sizes=[(8, 12)],
        num_warmup=1,
        num_rounds=3,
        clock=lambda: now[0],
    )
    assert [(row.candidate, row.timed) for row in rows] == [
        ("one", "end to end"),
        ("two", "end to end"),
    ]
    assert [row.p50_ms for row in rows] == pytest.approx([100.0, 250.0])
    assert [row.ratio for row in rows] == pytest.approx([1.0, 2.5])
    assert set(calls) == {
        (name, (8, 12, 3), (8, 12), np.dtype(np.uint8)) for name in ("one", "two")
    }
    # One to see what it returns, one to warm up, three rounds; two functions.
    assert len(calls) == 2 * 5


def test_a_function_whose_result_may_be_under_way_is_refused():
    with pytest.raises(FusionProxyError, match="lazy returns list.*a NumPy array"):
        measure_callables({"lazy": lambda visible, infrared: [1]}, sizes=[(8, 12)])
