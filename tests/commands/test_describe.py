import json

import pytest
from tiny_student import exported

from fusionproxy_jax import cli
from fusionproxy_jax.errors import FusionProxyError


def test_base_is_within_its_budget(capsys):
    assert cli.run(["describe", "base", "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    assert description["size"] == "480x640"
    assert 0 < description["multiply_adds"] <= 10e9
    assert 0 < description["parameters"] <= 3e6
    parts = description["by_module"].values()
    assert sum(p["multiply_adds"] for p in parts) == description["multiply_adds"]


def test_a_table_names_each_part_and_the_total(capsys):
    cli.run(["describe", "base", "--size", "64x96"])
    out = capsys.readouterr().out
    assert "base at 64x96" in out
    assert "visible_encoder" in out
    assert out.splitlines()[-1].startswith("total")


def test_sizes_are_padded_to_the_stride(capsys):
    totals = []
    for size in ("60x90", "64x96"):
        cli.run(["describe", "base", "--json", "--size", size])
        totals.append(json.loads(capsys.readouterr().out)["multiply_adds"])
    assert totals[0] == totals[1]


def test_an_onnx_file_is_described(capsys):
    file = str(exported() / "tiny_camera.onnx")
    cli.run(["describe", file, "--json", "--size", "32x48"])
    assert json.loads(capsys.readouterr().out)["multiply_adds"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["huge"], "no network 'huge'.*base"),
        (["base", "--size", "480"], "size '480'"),
        (["base", "--size", "8x640"], "at least 16 px"),
        (["none.onnx"], "no ONNX file"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words):
    with pytest.raises(FusionProxyError, match=words):
        cli.run(["describe", *arguments])
