import dataclasses
import json

import numpy as np
import pytest
from tiny_training import TinyCache, metric_rows, tiny_config

from fusionproxy_jax.training import loop
from fusionproxy_jax.training.build import build_training
from fusionproxy_jax.training.reporting import NotFiniteError, Reporter, RunReport
from fusionproxy_jax.training.state import TrainState


class Rows:
    """Takes the place of a metric writer."""

    def __init__(self):
        self.rows = []

    def write(self, step, means):
        self.rows.append((step, means["loss"]))


class Host:
    """Takes the place of devices: counts what is fetched from them."""

    def __init__(self):
        self.num_fetched = 0

    def fetch(self, tree):
        self.num_fetched += len(tree)
        return list(tree)


def reporter(host, writer):
    report = RunReport(writer.write, None, num_steps=9, batch_size=2)
    return Reporter(host.fetch, report, start=0)


def metrics(loss):
    return {"loss": np.float32(loss), "finite": np.isfinite(loss)}


def test_a_report_waits_for_the_next_step_and_holds_the_steps_before_it():
    host, writer = Host(), Rows()
    report = reporter(host, writer)
    for loss in (1.0, 3.0):
        report.add(metrics(loss))
    report.report_later()
    assert (host.num_fetched, writer.rows) == (0, [])
    report.add(metrics(100.0))
    assert (host.num_fetched, writer.rows) == (2, [(2, 2.0)])
    report.add(metrics(200.0))
    assert host.num_fetched == 2
    report.report()
    assert writer.rows == [(2, 2.0), (4, 150.0)]


def test_a_report_that_cannot_wait_takes_what_is_due_with_it():
    host, writer = Host(), Rows()
    report = reporter(host, writer)
    report.add(metrics(1.0))
    report.report_later()
    report.report()
    assert writer.rows == [(1, 1.0)]
    # It is no longer due.
    report.add(metrics(2.0))
    report.add(metrics(3.0))
    assert host.num_fetched == 1


def test_a_loss_that_is_not_finite_has_the_number_of_its_step():
    report = reporter(Host(), Rows())
    for loss in (1.0, np.nan, 2.0):
        report.add(metrics(loss))
    report.report_later()
    with pytest.raises(NotFiniteError) as caught:
        report.add(metrics(3.0))
    assert caught.value.step == 2


def test_a_run_fetches_nothing_between_reports(tmp_path, tiny_student, monkeypatch):
    events = []

    def recorded(config, **options):
        training = build_training(config, **options)
        parallel = training.parallel

        def run(*inputs):
            events.append("step")
            return parallel.run(*inputs)

        def unreplicate(tree):
            is_state = isinstance(tree, TrainState)
            events.append("state" if is_state else f"{len(tree)} metrics")
            return parallel.unreplicate(tree)

        return training._replace(
            parallel=dataclasses.replace(parallel, run=run, unreplicate=unreplicate)
        )

    monkeypatch.setattr(loop, "build_training", recorded)
    config = tiny_config(num_steps=8, log_every=3, checkpoint_every=8)
    loop.train(config, TinyCache(), tmp_path)
    assert " ".join(events) == (
        "step step step step 3 metrics step step step 3 metrics step 2 metrics state"
    )
    assert [row["step"] for row in metric_rows(tmp_path)] == [3, 6, 8]
    assert json.loads((tmp_path / "config.json").read_text())["log_every"] == 3
