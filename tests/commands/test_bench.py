import importlib.util
import json

import pytest
from tiny_student import exported

from fusionproxy_jax import cli
from fusionproxy_jax.commands import bench
from fusionproxy_jax.errors import FusionProxyError


def _students(tmp_path, *arguments):
    report = tmp_path / "report.json"
    cli.run(
        [
            *("bench", "students", "--size", "32x48", "--rounds", "2"),
            *("--weights", str(exported()), "--json", str(report), *arguments),
        ]
    )
    return json.loads(report.read_text())


def test_each_form_of_each_student_is_reported(tmp_path, capsys):
    report = _students(tmp_path, "--threads", "1")
    rows = {row["runner"]: row for row in report["students"]}
    assert rows.keys() == {"onnx camera", "onnx float", "jax"}
    for row in rows.values():
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"]
        assert row["frames_per_second"] == pytest.approx(1000 / row["p50_ms"])
        assert row["student"] == "tiny"
        assert row["parameters"] > 0 and row["multiply_adds"] > 0
    peak = report["gemm_peak"]["gflop_per_second"]
    camera = rows["onnx camera"]
    assert camera["share_of_gemm_peak"] == pytest.approx(
        2 * camera["multiply_adds"] / (camera["p50_ms"] / 1e3) / 1e9 / peak
    )
    assert report["onnx_threads"] == 1
    assert report["machine"]["processor"]
    assert "onnx camera" in capsys.readouterr().out


def test_without_jax_the_reason_is_reported(tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        bench.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "jax" else found(name, *rest),
    )
    report = _students(tmp_path)
    runners = {row["runner"] for row in report["students"]}
    assert runners == {"onnx camera", "onnx float"}
    assert "jax is not installed" in report["jax_skipped"]
    assert "jax is not installed" in capsys.readouterr().out


def test_no_students_is_one_sentence(tmp_path):
    with pytest.raises(FusionProxyError, match="no students in"):
        cli.run(["bench", "students", "--weights", str(tmp_path)])


def test_training_reports_images_a_second(tmp_path, capsys, monkeypatch):
    seen = []

    def measured(config, *, num_steps):
        seen.append((config.data.batch_size, num_steps))
        return 12.5

    monkeypatch.setattr(
        "fusionproxy_jax.training.throughput.measure_throughput", measured
    )
    path = tmp_path / "training.json"
    arguments = ["--rounds", "4", "--json", str(path), "--data.batch-size", "6"]
    cli.run(["bench", "training", *arguments])
    report = json.loads(path.read_text())
    assert seen == [(6, 4)]
    assert report["images_per_second"] == 12.5
    assert report["batch_size"] == 6
    assert "12.50 images/s" in capsys.readouterr().out


def test_zero_rounds_are_refused():
    with pytest.raises(FusionProxyError, match="at least 1"):
        cli.run(["bench", "students", "--rounds", "0"])


def test_teachers_are_timed_part_by_part(tmp_path, capsys):
    report = tmp_path / "teachers.json"
    options = ["--size=64x64", "--rounds=1", "--images=2", f"--json={report}"]
    chain = ["--teacher.num-samples=2", "--teacher.ddfm.num-steps=2"]
    teachers = ["--teacher.teachers", "gaussian", "mask_difuser"]
    cli.run(["bench", "teachers", *options, *chain, *teachers])
    told = json.loads(report.read_text())
    assert told["images_at_once"] == 2 and told["device_peak_gflops"] > 0
    parts = {(part["teacher"], part["part"]): part for part in told["parts"]}
    network = parts["mask_difuser", "network step of 2 samples"]
    encoders = parts["mask_difuser", "encoders, once per image"]
    assert network["multiply_adds"] > 0 and encoders["multiply_adds"] > 0
    # The filter of a Gaussian prior is no product.
    assert parts["gaussian", "prior step of 2 samples"]["multiply_adds"] == 0
    assert all(part["p50_ms"] > 0 for part in told["parts"])
    printed = capsys.readouterr().out
    assert "rectification (salient) of 2 samples" in printed
