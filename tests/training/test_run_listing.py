import json
import math
import os
import subprocess
import sys

import pytest

from fusionproxy_jax.config import (
    Config,
    LossConfig,
    OptimizerConfig,
    TeacherTrainingConfig,
    to_json,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.run_listing import differing_settings, list_runs

NOW = 2_000_000_000.0


def make_run(folder, config=None, rows=(), *, age=10.0, status=None, scores=None):
    """Writes what a run leaves that last wrote `age` seconds before NOW."""
    folder.mkdir(parents=True)
    texts = {
        "config.json": to_json(config or Config(num_steps=100)),
        "metrics.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
    }
    if status is not None:
        texts["status.json"] = json.dumps(status)
    if scores is not None:
        texts["scores.json"] = json.dumps(scores)
    for name, text in texts.items():
        (folder / name).write_text(text)
        os.utime(folder / name, (NOW - age, NOW - age))
    return folder


def listed(*folders):
    return list_runs(folders, now=NOW)


def only(folder):
    (run,) = listed(folder)
    return run


def test_a_run_says_what_it_trains_how_far_it_is_and_how_well_it_does(tmp_path):
    rows = [
        {"step": 50, "loss": 0.5},
        {"step": 60, "loss": 0.25, "pixel_loss": 0.125, "images_per_second": 8.0},
    ]
    make_run(tmp_path / "mine", rows=rows, scores={"scores": {"VIF": 0.5, "n": "x"}})
    run = only(tmp_path)
    assert (run.name, run.trains, run.step, run.num_steps) == (
        "mine",
        "student",
        60,
        100,
    )
    assert run.metrics == {"loss": 0.25, "pixel_loss": 0.125, "images_per_second": 8.0}
    assert run.scores == {"VIF": 0.5}
    assert run.written == NOW - 10
    assert run.settings["loss.routing_temperature"] == 1.0


def test_runs_are_found_at_any_depth_and_listed_once(tmp_path):
    sweep = tmp_path / "sweep"
    for name in ("seed=0,tau=1", "seed=1,tau=1"):
        make_run(sweep / "members" / name)
    make_run(tmp_path / "base")
    # Neither of these is a run.
    make_run(tmp_path / "base" / "checkpoints" / "100")
    make_run(tmp_path / ".trash" / "old")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "config.json").write_text("{}")
    found = ["base", "sweep/members/seed=0,tau=1", "sweep/members/seed=1,tau=1"]
    assert [run.name for run in listed(tmp_path)] == found
    both = listed(tmp_path, sweep)
    assert [run.name for run in both] == [f"{tmp_path}/{name}" for name in found]
    assert only(tmp_path / "base").name == f"{tmp_path}/base"


@pytest.mark.parametrize(
    ("step", "age", "status", "state"),
    [
        (60, 10.0, None, "running"),
        (60, 3000.0, None, "stopped"),
        (100, 3000.0, None, "finished"),
        (60, 10.0, {"state": "stopped"}, "stopped"),
        (60, 3000.0, {"state": "dead", "died_at": 61}, "dead"),
        (60, 10.0, {"state": "finished"}, "finished"),
        (60, 10.0, {"state": "running", "step": 70}, "running"),
        # Its machine went away before it could say so.
        (60, 3000.0, {"state": "running"}, "stopped"),
        (60, 10.0, {"state": "dancing"}, "running"),
        (60, 10.0, {}, "running"),
    ],
)
def test_the_state_is_the_run_s_word_or_what_its_files_say(
    step, age, status, state, tmp_path
):
    make_run(tmp_path / "r", rows=[{"step": step, "loss": 1.0}], age=age, status=status)
    run = only(tmp_path)
    assert run.state == state
    assert run.died_at == (61 if state == "dead" else None)
    assert run.step == (70 if status and "step" in status else step)


def test_a_slow_run_is_given_the_time_that_its_rows_take(tmp_path):
    # Ten steps of eight images at 0.1 images a second: a row every 800 seconds.
    config = Config(num_steps=100, log_every=10)
    row = {"step": 50, "loss": 1.0, "images_per_second": 0.1}
    make_run(tmp_path / "slow", config, [row], age=3000.0)
    assert only(tmp_path).state == "running"


def test_a_loss_that_is_not_finite_is_a_dead_run(tmp_path):
    make_run(tmp_path / "r", rows=[{"step": 5, "loss": None}])
    run = only(tmp_path)
    assert run.state == "dead" and math.isnan(run.metrics["loss"])


def test_a_run_that_has_just_begun_is_running(tmp_path):
    make_run(tmp_path / "r")
    run = only(tmp_path)
    assert (run.step, run.state, run.metrics) == (0, "running", {})


def test_a_teacher_s_run_is_told_from_a_student_s(tmp_path):
    make_run(tmp_path / "t", TeacherTrainingConfig(teacher="mask_difuser"))
    assert only(tmp_path).trains == "teacher mask_difuser"


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "status.json", "scores.json"]
)
@pytest.mark.parametrize("text", ["", '{"state": "dead", "num_st', "[1]", "null", "\0"])
def test_files_that_are_cut_short_or_garbled_are_not_known(name, text, tmp_path):
    rows = [{"step": 60, "loss": 1.0}]
    folder = make_run(tmp_path / "r", rows=rows, status={}, scores={})
    (folder / name).write_text(text)
    run = only(tmp_path)
    assert run.name == "r" and run.step == (0 if name == "metrics.jsonl" else 60)
    assert run.trains == (None if name == "config.json" else "student")
    assert run.scores == {}


def test_folders_without_runs_are_one_sentence(tmp_path):
    with pytest.raises(FusionProxyError, match="no run lies in .*; a run's folder"):
        list_runs([tmp_path])
    with pytest.raises(FusionProxyError, match="there is no folder .*/none to look"):
        list_runs([tmp_path / "none"])


def test_only_settings_that_are_not_the_same_in_all_runs_differ(tmp_path):
    make_run(tmp_path / "a", Config(num_steps=100))
    make_run(tmp_path / "b", Config(loss=LossConfig(routing_temperature=math.inf)))
    make_run(tmp_path / "c", Config(optimizer=OptimizerConfig(learning_rate=1e-3)))
    assert differing_settings(listed(tmp_path)) == [
        "loss.routing_temperature",
        "num_steps",
        "optimizer.learning_rate",
    ]
    assert differing_settings(listed(tmp_path)[:1]) == []


def test_listing_loads_no_framework():
    code = (
        "import sys, fusionproxy_jax.commands.runs; "
        "print([m for m in ('jax', 'flax', 'numpy', 'tensorboardX') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
