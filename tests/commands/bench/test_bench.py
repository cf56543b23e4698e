import functools
import json

import pytest

from fusionproxy_jax import cli
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.cost import device_peak_gflops


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
        (["students", "--students", "base"], "--depthwise and --members belong"),
        (["latency", "base", "--depthwise"], "--depthwise and --members belong"),
        (["training", "--students", "base", "none"], "no student 'none'"),
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
