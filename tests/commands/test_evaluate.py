import csv
import json

import numpy as np
import onnx
import pytest
from PIL import Image

from fusionproxy_jax import cli
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.metrics import METRICS


def write_pairs(root, num_pairs):
    generator = np.random.default_rng(num_pairs)
    for index in range(num_pairs):
        for folder, shape in (("visible", (48, 60, 3)), ("infrared", (48, 60))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image = generator.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(image).save(root / folder / f"{index:02}.png")
    return root


def write_model(path):
    """An ONNX file that looks like a student and returns the visible image."""
    byte = onnx.TensorProto.UINT8
    colour, grey = ["b", "h", "w", 3], ["b", "h", "w", 1]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["visible"], ["fused"])],
        "visible_only",
        [
            onnx.helper.make_tensor_value_info("visible", byte, colour),
            onnx.helper.make_tensor_value_info("infrared", byte, grey),
        ],
        [onnx.helper.make_tensor_value_info("fused", byte, colour)],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def test_students_and_controls_are_measured_on_every_data_set(tmp_path, capsys):
    root = tmp_path / "sets"
    write_pairs(root / "night", 3)
    write_pairs(root / "day", 2)
    model = write_model(tmp_path / "visible_only.onnx")
    code = cli.run(
        ["evaluate", "--pairs", str(root), "--model", str(model)]
        + ["--json", str(tmp_path / "e.json"), "--csv", str(tmp_path / "e.csv")]
    )
    assert code == 0
    printed = capsys.readouterr().out
    assert "night: means over 3 pairs" in printed and "day: means over 2" in printed

    report = json.loads((tmp_path / "e.json").read_text())
    methods = ["visible_only", "mean", "max", "msx", "lp"]
    night = report["sets"]["night"]
    assert list(night["means"]) == methods == list(night["mean_rank"])
    # A method that returns the visible image keeps all of it.
    values = [image["visible_only"] for image in report["images"]["night"].values()]
    assert all(value["SSIM"] > 0.99 and value["VIF"] > 0.99 for value in values)
    np.testing.assert_allclose(
        night["means"]["visible_only"]["MI"], np.mean([value["MI"] for value in values])
    )

    with (tmp_path / "e.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["set", "image", "method", *METRICS]
    assert len(rows) == 5 * len(methods)
    assert {row["image"] for row in rows if row["set"] == "day"} == {
        "sets/day/00",
        "sets/day/01",
    }


def test_a_sheet_shows_every_pair_beside_every_method(tmp_path):
    root = write_pairs(tmp_path / "night", 2)
    model = write_model(tmp_path / "visible_only.onnx")
    sheet = tmp_path / "sheet.png"
    arguments = ["--pairs", str(root), "--model", str(model), "--sheet", str(sheet)]
    assert cli.run(["evaluate", *arguments]) == 0
    with Image.open(sheet) as picture:
        width, height = picture.size
    # Seven columns, visible to lp, and two rows of the pairs' 48:60 shape.
    assert width > 7 * 320 and height > 2 * 256


def test_a_limit_takes_pairs_from_all_over_each_set(tmp_path):
    root = write_pairs(tmp_path / "scenes", 9)
    model = write_model(tmp_path / "visible_only.onnx")
    report = tmp_path / "e.json"
    cli.run(
        ["evaluate", "--pairs", str(root), "--model", str(model), "--limit", "3"]
        + ["--json", str(report)]
    )
    images = json.loads(report.read_text())["images"]["scenes"]
    assert list(images) == ["scenes/00", "scenes/03", "scenes/06"]


def test_only_the_pairs_training_holds_out_are_measured(tmp_path):
    from fusionproxy_jax.input_pipeline.split import split_pairs

    root = write_pairs(tmp_path / "scenes", 8)
    model = write_model(tmp_path / "visible_only.onnx")
    report = tmp_path / "e.json"
    cli.run(
        ["evaluate", "--pairs", str(root), "--model", str(model)]
        + ["--validation-fraction", "0.25", "--json", str(report)]
    )
    ids = [f"scenes/{index:02}" for index in range(8)]
    _, held_out = split_pairs([(name, name) for name in ids], 0.25)
    images = json.loads(report.read_text())["images"]["scenes"]
    assert list(images) == [ids[index] for index in held_out]
    assert len(images) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--pairs", "{root}/nowhere"], "there is no folder"),
        (["--pairs", "{root}/pairs", "--limit", "0"], "--limit is 0"),
        (["--pairs", "{root}/pairs", "--json", "{root}/no/e.json"], "no folder"),
        (["--pairs", "{root}/pairs", "--validation-fraction", "0"], "no pair out"),
        (["--pairs", "{root}/pairs", "--model", "{root}/lp.onnx"], "of a control"),
        (["--pairs", "{root}/pairs", "--model", "{root}/none.onnx"], "no model file"),
    ],
)
def test_bad_requests_are_refused_in_a_sentence(tmp_path, arguments, sentence):
    write_pairs(tmp_path / "pairs", 1)
    model = write_model(tmp_path / "visible_only.onnx")
    write_model(tmp_path / "lp.onnx")
    arguments = [argument.format(root=tmp_path) for argument in arguments]
    if "--model" not in arguments:
        arguments += ["--model", str(model)]
    with pytest.raises(FusionProxyError, match=sentence):
        cli.run(["evaluate", *arguments])
    assert not list(tmp_path.glob("*.json"))


def test_two_folders_of_one_name_are_not_merged(tmp_path):
    folders = [str(write_pairs(tmp_path / part / "night", 1)) for part in "ab"]
    model = str(write_model(tmp_path / "visible_only.onnx"))
    with pytest.raises(FusionProxyError, match="pairs of the same name"):
        cli.run(["evaluate", "--pairs", *folders, "--model", model])
