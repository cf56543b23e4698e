import dataclasses
import json
import math
import re

import pytest

from fusionproxy_jax import cli
from fusionproxy_jax.config import Config, LossConfig, to_json
from fusionproxy_jax.errors import FusionProxyError

TEMPERATURES = {"cold": 0.1, "hot": math.inf, "warm": 1.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs of a sweep, the warm one without scores and without a loss."""
    root = tmp_path_factory.mktemp("runs")
    for number, (name, temperature) in enumerate(TEMPERATURES.items()):
        folder = root / name
        folder.mkdir()
        config = Config(
            num_steps=100 * (number + 1),
            loss=LossConfig(routing_temperature=temperature),
        )
        (folder / "config.json").write_text(to_json(config))
        row = {"step": 20, "loss": 0.5 / (number + 1), "images_per_second": 12.345}
        if name == "warm":
            row["loss"] = None
            status = {"state": "dead", "step": 21, "died_at": 21}
            (folder / "status.json").write_text(json.dumps(status))
        else:
            scores = {"num_pairs": 3, "scores": {"VIF": 0.7 + number, "Qabf": 0.5}}
            (folder / "scores.json").write_text(json.dumps(scores))
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return root


def printed(capsys, *arguments):
    assert cli.run(["runs", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def cells(line):
    return re.split(r" {2,}", line)


def names(text):
    return [cells(line)[0] for line in text.splitlines()[1:]]


def test_every_run_is_one_line(runs, capsys):
    head, cold, hot, warm = printed(capsys, runs).splitlines()
    assert cells(head) == [
        *("run", "trains", "step", "state", "loss", "images/s", "written"),
        *("VIF", "Qabf"),
    ]
    assert cells(cold)[:6] == ["cold", "student", "20/100", "running", "0.5", "12.35"]
    assert cells(cold)[6].endswith(" s ago") and cells(cold)[7:] == ["0.7", "0.5"]
    assert cells(hot)[4] == "0.25"
    assert cells(warm)[2:5] == ["21/300", "dead at 21", "nan"]


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ((), ["cold", "hot", "warm"]),
        (("--descending",), ["warm", "hot", "cold"]),
        (("--sort", "loss"), ["hot", "cold", "warm"]),
        (("--sort", "loss", "--descending"), ["cold", "hot", "warm"]),
        (("--sort", "VIF", "--descending"), ["hot", "cold", "warm"]),
        (("--sort", "loss.routing_temperature"), ["cold", "warm", "hot"]),
        (("--sort", "state"), ["warm", "cold", "hot"]),
    ],
)
def test_runs_are_sorted_and_those_without_a_value_come_last(
    options, order, runs, capsys
):
    assert names(printed(capsys, runs, *options)) == order


def test_columns_are_metrics_scores_or_settings(runs, capsys):
    text = printed(
        capsys, runs, "--columns", "loss.routing_temperature", "VIF", "student.widths"
    )
    head, cold, hot, warm = map(cells, text.splitlines())
    assert head == ["run", "loss.routing_temperature", "VIF", "student.widths"]
    assert cold == ["cold", "0.1", "0.7", "40,80,128"]
    assert hot[1] == "inf" and warm == ["warm", "1", "40,80,128"]


def test_a_comparison_shows_what_differs_and_what_came_of_it(runs, capsys):
    head, cold, *_ = map(cells, printed(capsys, runs, "--compare").splitlines())
    assert head[:5] == ["run", "loss.routing_temperature", "num_steps", "step", "state"]
    assert head[5:] == ["loss", "VIF", "Qabf"]
    assert cold[1:3] == ["0.1", "100"]
    head = printed(capsys, runs, "--compare", "--columns", "VIF").splitlines()[0]
    assert cells(head) == ["run", "loss.routing_temperature", "num_steps", "VIF"]


def test_json_is_valid_and_tells_everything(runs, capsys):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = printed(capsys, runs, "--json", "--sort", "VIF")
    found = json.loads(text, parse_constant=refuse)
    assert [run["name"] for run in found] == ["cold", "hot", "warm"]
    assert found[0]["scores"] == {"VIF": 0.7, "Qabf": 0.5}
    assert found[0]["metrics"]["images_per_second"] == 12.345
    assert found[1]["settings"]["loss.routing_temperature"] == "inf"
    assert found[2]["metrics"]["loss"] is None
    assert (found[2]["state"], found[2]["died_at"]) == ("dead", 21)
    assert len(found[0]["settings"]) > len(dataclasses.fields(Config))
    compared = json.loads(printed(capsys, runs, "--json", "--compare"))
    assert compared[0]["settings"].keys() == {"loss.routing_temperature", "num_steps"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no folder nowhere to look for runs in"),
        ([], "name at least one folder|needs FOLDER"),
        (["{runs}", "--sort", "los"], "--sort names 'los', .*; did you mean loss?"),
        (["{runs}", "--columns", "VIF", "PSNR"], "--columns names 'PSNR', which none"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FusionProxyError, match=words) as caught:
        cli.run(["runs", *(text.format(runs=runs) for text in arguments)])
    assert "\n" not in str(caught.value)
