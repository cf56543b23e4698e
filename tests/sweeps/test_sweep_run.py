import dataclasses
import json
import shutil
import signal

import pytest

from fusionproxy_jax.config import DataConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.member_files import (
    Scores,
    read_scores,
    read_status,
    write_scores,
)
from fusionproxy_jax.sweeps.run import run_sweep

DEADLY = 1e6


@pytest.fixture
def members(make_config):
    return {
        "a": make_config(),
        "b": make_config(seed=1),
        "long": make_config(num_steps=6),
    }


@pytest.fixture
def scored(make_config):
    return {"a": make_config(held_out=True), "b": make_config(held_out=True, seed=1)}


def status_of(workdir, name):
    return read_status(workdir / "members" / name)


def test_programs_follow_each_other(members, cache, untrained, tmp_path):
    seen, told = [], []
    result = run_sweep(members, cache, tmp_path, progress=seen.append, tell=told.append)
    assert result.signal_number is None and result.died_at == {}
    assert [(one.number, one.num_programs, one.population.step) for one in seen] == [
        *((1, 2, 2), (1, 2, 4)),
        *((2, 2, 2), (2, 2, 4), (2, 2, 6)),
    ]
    assert [line for line in told if "no scores" not in line] == [
        "program 1 of 2: a, b",
        "program 2 of 2: long",
    ]
    for name in members:
        status = status_of(tmp_path, name)
        assert status == result.statuses[name]
        assert (status.state, status.died_at) == ("finished", None)
        assert status.step == status.num_steps == members[name].num_steps
        assert status.seconds_per_step == 0.25
    assert status_of(tmp_path, "a").num_members == 2
    assert status_of(tmp_path, "a").program == status_of(tmp_path, "b").program
    programs = {path.name for path in (tmp_path / "programs").iterdir()}
    assert programs == {status_of(tmp_path, name).program for name in members}


def test_statuses_follow_every_report(members, cache, untrained, tmp_path):
    seen = []

    def look(progress):
        seen.append(status_of(tmp_path, "a"))

    run_sweep({"a": members["a"]}, cache, tmp_path, progress=look)
    assert [(one.state, one.step) for one in seen] == [("running", 2), ("running", 4)]
    assert seen[0].seconds_per_step == 0.25


def test_a_finished_sweep_is_scored_once_and_not_trained_again(
    scored, cache, untrained, tmp_path, monkeypatch
):
    told = []
    run_sweep(scored, cache, tmp_path, tell=told.append)
    assert told[1:] == ["scoring 2 members on 2 held-out pairs"]
    first = read_scores(tmp_path / "members/a")
    assert first.num_pairs == 2 and first.scores["EN"] > 0
    marked = Scores(num_pairs=2, scores={"EN": -1.0})
    write_scores(tmp_path / "members/a", marked)
    (tmp_path / "members/b/scores.json").unlink()
    monkeypatch.setattr("fusionproxy_jax.sweeps.run.train_population", None)
    result = run_sweep(scored, cache, tmp_path)
    assert all(status.state == "finished" for status in result.statuses.values())
    assert read_scores(tmp_path / "members/a") == marked
    # What a kill before the end of scoring left out is made up for.
    assert read_scores(tmp_path / "members/b").num_pairs == 2


def test_a_signal_stops_the_sweep_and_the_same_call_goes_on(
    members, cache, untrained, tmp_path
):
    def stop(progress):
        signal.raise_signal(signal.SIGTERM)

    stopped = run_sweep(members, cache, tmp_path, progress=stop)
    assert stopped.signal_number == signal.SIGTERM
    assert [status and status.state for status in stopped.statuses.values()] == [
        *("stopped", "stopped"),
        None,
    ]
    assert status_of(tmp_path, "a").step == 2
    assert not (tmp_path / "members/long").exists()

    steps = []
    result = run_sweep(
        members,
        cache,
        tmp_path,
        progress=lambda progress: steps.append(progress.population.step),
    )
    assert steps == [4, 2, 4, 6]
    assert all(status.state == "finished" for status in result.statuses.values())


def test_a_signal_while_scoring_leaves_the_rest_for_later(
    scored, cache, untrained, tmp_path, monkeypatch
):
    from fusionproxy_jax.sweeps import run

    load_student, loaded = run.load_student, []

    def load_then_stop(directory):
        loaded.append(directory.name)
        if len(loaded) == 2:
            signal.raise_signal(signal.SIGINT)
        return load_student(directory)

    monkeypatch.setattr(run, "load_student", load_then_stop)
    result = run_sweep(scored, cache, tmp_path)
    assert result.signal_number == signal.SIGINT and loaded == ["a", "b"]
    assert result.statuses["b"].state == "finished"
    assert read_scores(tmp_path / "members/a") is not None
    assert read_scores(tmp_path / "members/b") is None
    assert run_sweep(scored, cache, tmp_path).signal_number is None
    assert loaded == ["a", "b", "b"]
    assert read_scores(tmp_path / "members/b") is not None


def test_a_dead_member_is_told_of_and_the_others_go_on(
    make_config, cache, untrained, tmp_path
):
    members = {"good": make_config(), "bad": make_config(learning_rate=DEADLY)}
    result = run_sweep(members, cache, tmp_path)
    assert result.died_at == {"bad": 3}
    bad = status_of(tmp_path, "bad")
    assert (bad.state, bad.step, bad.died_at) == ("dead", 2, 3)
    assert status_of(tmp_path, "good").state == "finished"
    assert read_scores(tmp_path / "members/bad") is None
    assert run_sweep(members, cache, tmp_path).died_at == {"bad": 3}


def test_tasks_of_an_array_share_the_members(members, cache, untrained, tmp_path):
    told, trained = [], []
    for index in range(4):
        result = run_sweep(
            members, cache, tmp_path, index=index, count=4, tell=told.append
        )
        trained += result.statuses
    assert sorted(trained) == sorted(members)
    assert "task 0 of 4 has nothing to do: the sweep has 3 members" in told
    assert {status_of(tmp_path, name).state for name in members} == {"finished"}


def test_a_dead_member_stays_with_its_stopped_program(
    make_config, cache, untrained, tmp_path
):
    members = {
        "good": make_config(num_steps=8),
        "bad": make_config(num_steps=8, learning_rate=DEADLY),
    }

    def stop(progress):
        if progress.population.step == 4:
            signal.raise_signal(signal.SIGTERM)

    run_sweep(members, cache, tmp_path, progress=stop)
    assert status_of(tmp_path, "bad").state == "dead"
    steps = []
    run_sweep(
        members,
        cache,
        tmp_path,
        progress=lambda progress: steps.append(progress.population.step),
    )
    assert steps == [6, 8]


def test_members_that_ended_under_another_count_are_left_alone(
    make_config, cache, untrained, tmp_path
):
    members = {str(seed): make_config(seed=seed) for seed in range(3)}
    run_sweep(members, cache, tmp_path, index=0, count=3)
    ended = status_of(tmp_path, "0")
    told = []
    run_sweep(members, cache, tmp_path, tell=told.append)
    assert told[0] == "program 1 of 1: 1, 2"
    assert status_of(tmp_path, "0") == ended


def test_members_begun_under_another_count_are_not_begun_anew(
    make_config, cache, untrained, tmp_path
):
    members = {str(seed): make_config(seed=seed) for seed in range(3)}

    def stop(progress):
        signal.raise_signal(signal.SIGTERM)

    run_sweep(members, cache, tmp_path, progress=stop)
    with pytest.raises(FusionProxyError, match="0 in .* began beside other members"):
        run_sweep(members, cache, tmp_path, index=0, count=3)
    assert status_of(tmp_path, "0").state == "stopped"


def test_another_sweep_in_the_folder_is_refused_before_training(
    members, cache, untrained, tmp_path
):
    run_sweep({"a": members["a"]}, cache, tmp_path)
    changed = dataclasses.replace(members["a"], seed=9)
    with pytest.raises(FusionProxyError, match="holds another sweep: a differ"):
        run_sweep({"a": changed}, cache, tmp_path)


def test_an_error_leaves_members_stopped(
    members, cache, untrained, tmp_path, monkeypatch
):
    def fail(progress):
        raise FusionProxyError("the disk is full")

    with pytest.raises(FusionProxyError, match="^the disk is full"):
        run_sweep(members, cache, tmp_path, progress=fail)
    assert status_of(tmp_path, "a").state == "stopped"
    assert status_of(tmp_path, "long") is None


def test_without_held_out_pairs_there_are_no_scores(
    members, cache, untrained, tmp_path
):
    told = []
    run_sweep({"a": members["a"]}, cache, tmp_path, tell=told.append)
    assert told[1].startswith("no pairs are held out, so there are no scores")
    assert read_scores(tmp_path / "members/a") is None


def test_pairs_that_cannot_be_measured_do_not_end_the_sweep(
    make_config, pairs, cache, untrained, tmp_path
):
    copy = shutil.copytree(pairs, tmp_path / "pairs")
    for path in (copy / "visible").iterdir():
        path.write_bytes(b"no image")
    data = DataConfig(sources=(str(copy),), validation_fraction=0.5)
    told = []
    result = run_sweep(
        {"a": make_config(data=data)}, cache, tmp_path / "w", tell=told.append
    )
    assert result.statuses["a"].state == "finished"
    assert told[-1].startswith("a gets no scores: visible image")


def test_the_file_of_the_sweep_is_there_before_training(
    members, cache, untrained, tmp_path
):
    def look(progress):
        stored = json.loads((tmp_path / "sweep.json").read_text())
        assert stored["members"].keys() == members.keys()

    run_sweep(members, cache, tmp_path, progress=look)
