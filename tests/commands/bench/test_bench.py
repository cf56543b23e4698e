import functools
import json

import pytest
from strided_backbones import tiny_backbone

from fusionproxy_jax import cli
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.cost import device_peak_gflops


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


def test_training_tells_the_share_of_a_panel(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "fusionproxy_jax.commands.bench.training.load_backbones",
        lambda wanted, *, dtype: [tiny_backbone(name) for name in ("one", "two")],
    )
    monkeypatch.setattr(
        "fusionproxy_jax.training.throughput.measure_throughput",
        lambda config, *, num_steps, panel=None: 20.0 if panel is None else 15.0,
    )
    path = tmp_path / "training.json"
    cli.run(["bench", "training", "--json", str(path), "--panel.backbones", "compact"])
    told = json.loads(path.read_text())["panel"]
    assert told == {
        "backbones": ["one", "two"],
        "images_per_second": 15.0,
        "share_of_step": 0.25,
    }
    assert "one, two, which take 25% of the step" in capsys.readouterr().out


def test_teachers_are_timed_part_by_part(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "fusionproxy_jax.commands.bench.teachers.device_peak_gflops",
        functools.partial(device_peak_gflops, size=64),
    )
    report = tmp_path / "teachers.json"
    options = ["--size=64x64", "--rounds=1", "--images=2", f"--json={report}"]
    chain = ["--teacher.num-samples=2", "--teacher.ddfm.num-steps=2"]
    teachers = ["--teacher.teachers", "gaussian", "mask_difuser"]
    cli.run(["bench", "teachers", *options, *chain, *teachers])
    told = json.loads(report.read_text())
    assert told["images_at_once"] == 2 and told["device_peak_gflops"] > 0
    assert told["size"] == "64x64"
    parts = {(part["teacher"], part["part"]): part for part in told["parts"]}
    network = parts["mask_difuser", "network step of 2 samples"]
    encoders = parts["mask_difuser", "encoders, once per image"]
    assert network["multiply_adds"] > 0 and encoders["multiply_adds"] > 0
    # The filter of a Gaussian prior is no product.
    assert parts["gaussian", "prior step of 2 samples"]["multiply_adds"] == 0
    assert all(part["p50_ms"] > 0 for part in told["parts"])
    printed = capsys.readouterr().out
    assert "rectification (salient) of 2 samples" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["students", "--rounds", "0"], "at least 1"),
        (["students", "--threads", "0"], "at least 1"),
        (["students", "--warmup", "-1"], "--warmup is -1"),
        (["students", "--size", "32x48", "--sizes", "32x48"], "not both"),
        (["students", "base"], "takes no files.*bench latency"),
        (["students", "--jax", "base"], "--jax belongs to bench latency"),
        (["latency"], "needs ONNX files"),
        (["latency", "none.onnx"], "no ONNX file none.onnx.*base"),
        (["latency", "huge"], "no ONNX file huge.*base"),
        (["latency", "base", "--sizes", "480x640,8x8"], "size '8x8'"),
        (["latency", "base", "--jax", "base"], "leave one of them away"),
        (["latency", "--jax", "base", "--batch", "1,none"], "--batch '1,none'"),
        (["latency", "--jax", "base", "--batch", "0"], "--batch '0'"),
        (["latency", "--jax", "huge"], "huge.safetensors"),
        (["latency", "base", "--json", "no/folder/r.json"], "no folder no/folder"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words):
    with pytest.raises(FusionProxyError, match=words):
        cli.run(["bench", *arguments])
