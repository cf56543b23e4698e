import importlib.util
import json

import pytest
from tiny_graphs import CAMERA, FLOAT, write_fusion
from tiny_student import exported

from fusionproxy_jax import cli
from fusionproxy_jax.commands.bench.students import students_in
from fusionproxy_jax.errors import FusionProxyError


def _students(tmp_path, *arguments):
    report = tmp_path / "report.json"
    options = ["--rounds", "2", "--warmup", "1", "--no-memory", "--json", str(report)]
    cli.run(["bench", "students", *options, *arguments])
    return json.loads(report.read_text())


def test_each_form_of_each_student_is_reported(tmp_path, capsys):
    size = ["--size", "32x48", "--threads", "1"]
    report = _students(tmp_path, "--weights", str(exported()), *size)
    rows = {(row["runner"], row["timed"]): row for row in report["students"]}
    ways = ("network", "end to end")
    assert rows.keys() == {
        *((f"onnx {form}", way) for form in ("camera", "float") for way in ways),
        ("jax", "network"),
    }
    for row in rows.values():
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"]
        assert row["frames_per_second"] == pytest.approx(1000 / row["p50_ms"])
        assert row["student"] == "tiny" and row["size"] == "32x48"
        assert row["parameters"] > 0 and row["multiply_adds"] > 0
    peak = report["gemm_peak"]["gflop_per_second"]
    camera = rows["onnx camera", "network"]
    assert camera["share_of_gemm_peak"] == pytest.approx(
        2 * camera["multiply_adds"] / (camera["p50_ms"] / 1e3) / 1e9 / peak
    )
    assert rows["jax", "network"]["share_of_gemm_peak"] is None
    assert report["options"]["threads"] == 1
    assert report["machine"]["processor"] and "cpu" in report["jax"]
    assert "tiny onnx camera" in capsys.readouterr().out


def test_without_jax_the_reason_is_reported(tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "fusionproxy_jax.commands.bench.students.importlib.util.find_spec",
        lambda name, *rest: None if name == "jax" else found(name, *rest),
    )
    write_fusion(tmp_path / "m.onnx", FLOAT)
    (tmp_path / "m.safetensors").touch()
    report = _students(tmp_path, "--weights", str(tmp_path), "--size", "16x24")
    assert {row["runner"] for row in report["students"]} == {"onnx float"}
    assert report["jax"] is None
    assert "jax is not installed" in report["jax_skipped"]
    assert "jax is not installed" in capsys.readouterr().out


def test_all_forms_of_a_student_stand_beside_each_other(tmp_path):
    for name in (
        "nano",
        "nano_camera",
        "nano_int8",
        "my_own_camera",
        "nano_float16_camera_480x640",
    ):
        write_fusion(tmp_path / f"{name}.onnx", CAMERA if "cam" in name else FLOAT)
    found = {
        student: {form: path.stem for form, path in forms.items()}
        for student, forms in students_in(tmp_path).items()
    }
    assert found == {
        "my_own": {"camera": "my_own_camera"},
        "nano": {
            "float": "nano",
            "camera": "nano_camera",
            "float16 camera 480x640": "nano_float16_camera_480x640",
            "int8": "nano_int8",
        },
    }
    # A name that is nothing but an ending is a student's.
    write_fusion(tmp_path / "int8.onnx", FLOAT)
    assert students_in(tmp_path)["int8"].keys() == {"float"}


def test_no_students_is_one_sentence(tmp_path):
    with pytest.raises(FusionProxyError, match="no students in"):
        cli.run(["bench", "students", "--weights", str(tmp_path)])
