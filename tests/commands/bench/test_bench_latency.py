import json
import sys

import pytest
from tiny_graphs import CAMERA, FLOAT, with_size, write_fusion

from fusionproxy_jax import cli
from fusionproxy_jax.errors import FusionProxyError

STACKED = (("rgbt", "float32", ["B", 4, "H", "W"]),)


def _latency(tmp_path, *arguments):
    report = tmp_path / "report.json"
    options = ["--rounds", "2", "--warmup", "1", "--threads", "1"]
    cli.run(["bench", "latency", *options, "--json", str(report), *arguments])
    return json.loads(report.read_text())


def test_any_files_are_measured_side_by_side(tmp_path, capsys):
    paths = [
        write_fusion(tmp_path / f"{name}.onnx", inputs)
        for name, inputs in [("ours", CAMERA), ("theirs", FLOAT), ("four", STACKED)]
    ]
    files = list(map(str, paths))
    report = _latency(tmp_path, *files, "--sizes", "16x24,32x16", "--no-memory")
    assert report["sizes"] == ["16x24", "32x16"]
    assert report["batch_size"] == 1 and report["rounds"] == 2
    assert report["options"] == {"threads": 1, "arena": True, "graph_level": "all"}
    assert report["gemm_peak"]["gflop_per_second"] > 0
    assert report["machine"]["processor"]
    assert report["candidates"]["four"] == {
        "file": "four.onnx",
        "runtime": "onnxruntime",
        "inputs": ["rgbt: both, 4 x float32 NCHW"],
        "output": "fused",
    }
    rows = {(r["size"], r["candidate"], r["timed"]): r for r in report["rows"]}
    assert list(rows) == [
        (size, name, timed)
        for size in ("16x24", "32x16")
        for name in ("ours", "theirs", "four")
        for timed in ("network", "end to end")
    ]
    for (size, name, timed), row in rows.items():
        height, width = map(int, size.split("x"))
        assert row["multiply_adds"] == height * width * 27
        assert row["parameters"] == 30 and row["weights"] == "float32"
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"]
        assert row["frames_per_second"] == pytest.approx(1000 / row["p50_ms"])
        assert row["peak_memory_bytes"] is None
        assert (row["ratio"] == 1.0) if name == "ours" else (row["ratio"] > 0)
        assert (row["share_of_gemm_peak"] is None) == (timed == "end to end")
    head, columns, first, *_ = capsys.readouterr().out.splitlines()
    assert "1 threads, batch 1; matrix products reach" in head
    names = ["size", "candidate", "timed", "p50 ms", "frames/s", "x first", "MB"]
    assert [name for name in names if name not in columns] == []
    assert first.startswith("16x24     ours")
    # Cells stand under their heads.
    ends = columns.index("p50 ms") + len("p50 ms")
    assert first[:ends].split()[-1].replace(".", "").isdigit() and len(first) > ends


def test_a_fixed_size_is_timed_at_its_own_and_says_so(tmp_path, capsys):
    fixed = write_fusion(tmp_path / "fixed.onnx", with_size(FLOAT, 20, 28))
    free = write_fusion(tmp_path / "free.onnx", FLOAT)
    report = _latency(tmp_path, str(fixed), str(free), "--size", "16x24", "--no-memory")
    groups = [(row["size"], row["candidate"]) for row in report["rows"][::2]]
    assert groups == [("16x24", "free"), ("20x28", "fixed"), ("20x28", "free")]
    note = "fixed takes 20x28 only and is timed at that size"
    assert report["notes"] == [note]
    assert note in capsys.readouterr().out.splitlines()[-1]


def test_memory_of_each_file_and_way_is_in_the_report(tmp_path):
    path = write_fusion(tmp_path / "m.onnx", CAMERA)
    report = _latency(tmp_path, str(path), "--size", "16x24", "--no-arena")
    assert report["options"]["arena"] is False
    assert [row["peak_memory_bytes"] > 0 for row in report["rows"]] == [True, True]


def test_every_candidate_has_a_name_of_its_own(tmp_path):
    (tmp_path / "other").mkdir()
    one = write_fusion(tmp_path / "m.onnx", CAMERA)
    other = write_fusion(tmp_path / "other" / "m.onnx", FLOAT)
    third = write_fusion(tmp_path / "n.onnx", FLOAT)
    files = map(str, (one, other, third, third))
    report = _latency(tmp_path, *files, "--size", "16x24", "--no-memory")
    assert list(report["candidates"]) == [str(one), str(other), "n", "n (2)"]


def test_a_graph_of_other_inputs_is_one_sentence(tmp_path):
    path = write_fusion(tmp_path / "m.onnx", (("x", "float32", [2, 3, 8, 9]),))
    with pytest.raises(FusionProxyError, match="m.onnx takes x .float32.*one or two"):
        _latency(tmp_path, str(path))


def test_a_runtime_that_is_missing_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    path = write_fusion(tmp_path / "m.onnx", CAMERA)
    with pytest.raises(FusionProxyError, match="openvino is not installed"):
        _latency(tmp_path, str(path), "--runtime", "onnxruntime", "openvino")


def test_the_higher_of_two_peaks_counts(tmp_path, monkeypatch):
    peaks = iter([2.0, 8.0])
    monkeypatch.setattr(
        "fusionproxy_jax.commands.bench.ruler_report.measure_gemm_peak",
        lambda threads: {"gflop_per_second": next(peaks), "runner": "fake"},
    )
    path = write_fusion(tmp_path / "m.onnx", CAMERA)
    report = _latency(tmp_path, str(path), "--size", "16x24", "--no-memory")
    assert report["gemm_peak"]["gflop_per_second"] == 8.0
    row = report["rows"][0]
    rate = 2 * row["multiply_adds"] / row["p50_ms"] / 1e6
    assert row["share_of_gemm_peak"] == pytest.approx(rate / 8.0)
