import json

import pytest
from tiny_deployed import float32_models, write_pairs
from tiny_graphs import CAMERA, FLOAT, with_size, write_fusion

from fusionproxy_jax import cli
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.metrics import METRICS
from fusionproxy_jax.input_pipeline.pairs import load_pairs
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.onnx_export.half_precision import half_precision


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("data") / "scenes", num_pairs=3)


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms")
    model = float32_models()["light.onnx"]
    for name, form in (("light", model), ("light_float16", half_precision(model))):
        (folder / f"{name}.onnx").write_bytes(form.SerializeToString())
    return folder


EXTREMES = ["--extreme-sizes", "48x64"]


def test_forms_are_compared_with_the_reference(forms, pairs, tmp_path, capsys):
    report = tmp_path / "parity.json"
    reference, other = forms / "light.onnx", forms / "light_float16.onnx"
    code = cli.run(
        ["parity", str(reference), str(other), str(reference), *EXTREMES]
        + ["--data.sources", str(pairs), "--pairs", "2", "--json", str(report)]
    )
    assert code == 0
    told = json.loads(report.read_text())
    assert len(told["pairs"]) == 2 and told["extreme_sizes"] == ["48x64"]
    half, itself = told["forms"]
    assert half["form"] == str(other) and half["bytes"] == other.stat().st_size
    assert 0 < half["mean_error"] < 1 and half["psnr_db"] > 50
    assert list(half["metric_change"]) == list(METRICS)
    assert itself["psnr_db"] is None and itself["max_error"] == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "on 2 pairs" in lines[0]
    assert lines[2].endswith("yes") and "exact" in lines[3]


def test_only_the_pairs_training_holds_out_are_compared(tmp_path, pairs):
    path, report = write_fusion(tmp_path / "m.onnx", FLOAT), tmp_path / "parity.json"
    cli.run(
        ["parity", str(path), str(path), "--data.sources", str(pairs), *EXTREMES]
        + ["--validation-fraction", "0.34", "--json", str(report)]
    )
    groups = load_pairs([pairs]).ids_and_groups
    _, (held_out,) = split_pairs(groups, 0.34)
    assert json.loads(report.read_text())["pairs"] == [groups[held_out][0]]


def test_a_form_that_is_not_finite_is_named_and_ends_in_an_error(
    tmp_path, pairs, capsys
):
    from onnx import helper

    reference = write_fusion(tmp_path / "whole.onnx", FLOAT)
    bad = write_fusion(
        tmp_path / "bad.onnx",
        FLOAT,
        extra_nodes=(helper.make_node("Reciprocal", ["total"], ["changed"]),),
    )
    code = cli.run(
        ["parity", str(reference), str(bad), "--data.sources", str(pairs), *EXTREMES]
    )
    assert code == 1
    assert "no: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "light"], "there is no ONNX file a; .* by name: .*base"),
        (["light"], "nothing is given to compare with"),
        (["light", "light", "--json", "none/x.json"], "there is no folder none"),
        (["light", "light", "--extreme-sizes", "8x8"], "size '8x8' is not allowed"),
        (["light", "light"], "no data source"),
        (["one", "other", "--data.sources", "PAIRS"], "one 48x64 and other 64x96"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words, forms, pairs, tmp_path):
    write_fusion(tmp_path / "one.onnx", with_size(CAMERA, 48, 64))
    write_fusion(tmp_path / "other.onnx", with_size(CAMERA, 64, 96))
    paths = {
        "light": forms / "light.onnx",
        "one": tmp_path / "one.onnx",
        "other": tmp_path / "other.onnx",
        "PAIRS": pairs,
    }
    given = [str(paths.get(argument, argument)) for argument in arguments]
    with pytest.raises(FusionProxyError, match=words):
        cli.run(["parity", *given])
