"""Rows trained as sweeps of their own, continued, and trained for real."""

import dataclasses
import json
import signal

import pytest
from ablation_setup import base_on

from fusionproxy_jax.ablation import run as run_module
from fusionproxy_jax.ablation.record import read_record
from fusionproxy_jax.ablation.run import run_ablation
from fusionproxy_jax.ablation.table import write_table
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.folder import member_dir
from fusionproxy_jax.sweeps.member_files import (
    Scores,
    Status,
    read_scores,
    read_status,
    write_scores,
    write_status,
)
from fusionproxy_jax.sweeps.run import SweepResult


class Sweeps:
    """Stands in for `run_sweep`: writes what it would, without training."""

    def __init__(self):
        self.calls = []
        self.dies = ()
        self.stopped_in = None

    def __call__(self, members, cache, workdir, *, progress, tell, members_at_once):
        self.calls.append((workdir.name, tuple(members), cache.directory.name))
        statuses = {}
        for name, config in members.items():
            state = "dead" if name in self.dies else "finished"
            if workdir.name == self.stopped_in:
                state = "stopped"
            statuses[name] = Status(
                state=state,
                step=1 if state == "stopped" else config.num_steps,
                num_steps=config.num_steps,
                died_at=2 if state == "dead" else None,
                program="0",
                num_members=len(members),
                seconds_per_step=0.5,
                device="none",
            )
            write_status(member_dir(workdir, name), statuses[name])
            if state == "finished":
                scores = Scores(num_pairs=2, scores={"Qabf": 0.5, "EN": 7.0})
                write_scores(member_dir(workdir, name), scores)
        number = signal.SIGTERM if workdir.name == self.stopped_in else None
        return SweepResult(statuses, number)


@pytest.fixture
def sweeps(monkeypatch):
    recorder = Sweeps()
    monkeypatch.setattr(run_module, "run_sweep", recorder)
    return recorder


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


def test_rows_of_one_cache_and_program_train_together(
    base, cache_dir, tmp_path, sweeps
):
    told = []
    rows = tuple("abcdefgh")
    result = run_ablation(base, rows, cache_dir, tmp_path, tell=told.append)
    assert result.signal_number is None and result.died_at == {}
    assert sweeps.calls == [
        ("a", ("a",), "average_1"),
        ("b", ("b",), "average_2"),
        ("ceg", ("c", "e", "g"), "gaussian+average_2"),
        ("d", ("d",), "gaussian+average_2"),
        ("f", ("f",), "gaussian+average_2"),
    ]
    assert told[2].startswith("part 3 of 5: rows c (dual teacher (average + gaussian)")


def test_later_rows_get_sweeps_of_their_own_and_begun_ones_go_on_together(
    base, cache_dir, tmp_path, sweeps
):
    run_ablation(base, ("h", "g"), cache_dir, tmp_path)
    assert [call[:2] for call in sweeps.calls] == [("cg", ("c", "g"))]
    sweeps.calls.clear()
    run_ablation(base, ("e",), cache_dir, tmp_path)
    assert [call[:2] for call in sweeps.calls] == [("e", ("e",))]
    sweeps.calls.clear()
    run_ablation(base, ("c", "e"), cache_dir, tmp_path)
    assert [call[:2] for call in sweeps.calls] == [("cg", ("c", "g")), ("e", ("e",))]


def test_a_signal_ends_it_before_the_next_part(base, cache_dir, tmp_path, sweeps):
    sweeps.stopped_in = "b"
    result = run_ablation(base, ("a", "b", "c"), cache_dir, tmp_path)
    assert result.signal_number == signal.SIGTERM
    assert [call[0] for call in sweeps.calls] == ["a", "b"]
    sweeps.stopped_in = None
    assert run_ablation(base, ("b",), cache_dir, tmp_path).signal_number is None


def test_a_signal_while_caches_are_built_ends_it_and_the_same_call_goes_on(
    base, tmp_path, sweeps
):
    def interrupt(name, done, total):
        if name == "average_1 features" and done == 2:
            signal.raise_signal(signal.SIGTERM)

    call = (base, ("a",), tmp_path / "caches", tmp_path / "w")
    result = run_ablation(*call, teaching=interrupt)
    assert result.signal_number == signal.SIGTERM
    assert sweeps.calls == [] and read_record(tmp_path / "w") is None
    assert run_ablation(*call).signal_number is None
    assert [call[0] for call in sweeps.calls] == ["a"]


def test_rows_that_died_are_named_and_the_others_go_on(
    base, cache_dir, tmp_path, sweeps
):
    sweeps.dies = ("a",)
    result = run_ablation(base, ("a", "b"), cache_dir, tmp_path)
    assert result.died_at == {"a": 2}
    assert [call[0] for call in sweeps.calls] == ["a", "b"]


def test_another_default_in_the_same_folder_is_refused_before_any_cache_is_built(
    base, cache_dir, tmp_path, sweeps
):
    run_ablation(base, ("a",), cache_dir, tmp_path)
    other = dataclasses.replace(base, num_steps=7)
    with pytest.raises(FusionProxyError, match="num_steps was 3 and is now 7"):
        run_ablation(other, ("b",), tmp_path / "new", tmp_path)
    assert not (tmp_path / "new").exists()


def test_rows_without_a_panel_have_no_features_to_learn(
    pairs, cache_dir, tmp_path, sweeps
):
    run_ablation(base_on(pairs), ("a",), tmp_path / "caches", tmp_path / "w")
    assert not (tmp_path / "caches" / "average_1" / "features").exists()
    told = "rows d vary the alignment to a panel"
    with pytest.raises(FusionProxyError, match=told):
        run_ablation(base_on(pairs), ("a", "d"), cache_dir, tmp_path / "v")
    assert not (tmp_path / "v").exists()


def test_rows_are_trained_and_scored_for_real_and_not_again(base, cache_dir, tmp_path):
    reports = []
    call = (base, ("c", "e"), cache_dir, tmp_path)
    result = run_ablation(*call, training=reports.append)
    assert result.signal_number is None and result.died_at == {}
    assert reports[-1].population.step == base.num_steps
    record = read_record(tmp_path)
    assert record.sweeps == {"ce": ["c", "e"]}
    runs = [record.run_dir(tmp_path, letter) for letter in "ce"]
    before = [(run / "metrics.jsonl").read_bytes() for run in runs]
    assert before[0] != before[1]
    for run in runs:
        assert read_status(run).state == "finished"
        assert read_scores(run).num_pairs == 2
        assert json.loads((run / "config.json").read_text())["num_steps"] == 3
    # c is h, l and n too.
    assert write_table(tmp_path).num_done == 5
    reports.clear()
    run_ablation(*call, training=reports.append)
    assert reports == []
    assert [(run / "metrics.jsonl").read_bytes() for run in runs] == before
