import dataclasses
import functools
import json
import time

import jax.numpy as jnp
import pytest
from flax import linen as nn
from strided_backbones import tiny_backbone
from tiny_student import TINY

from fusionproxy_jax import cli
from fusionproxy_jax.commands.bench import training
from fusionproxy_jax.commands.describe import describe_student
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training import build

SMALL = [
    *("--data.crop-px", "32", "--data.batch-size", "2", "--teacher.tile-px", "64"),
    *("--rounds", "2", "--panel.backbones"),
]


@pytest.fixture(autouse=True)
def small_peaks(monkeypatch):
    small = functools.partial(
        training.measure_device_peaks,
        matrix_size=32,
        copied_bytes=2**16,
        num_rounds=2,
    )
    monkeypatch.setattr(training, "measure_device_peaks", small)


class OneLayer(nn.Module):
    """Compiles in a moment, and moves like a student."""

    stride = 4

    @nn.compact
    def __call__(self, visible, infrared):
        return visible + nn.Dense(3)(jnp.concatenate([visible, infrared], -1))


def bench(tmp_path, *arguments):
    path = tmp_path / "training.json"
    cli.run(["bench", "training", "--json", str(path), *arguments])
    return json.loads(path.read_text())


def test_a_step_is_told_against_the_device_the_panel_and_the_loader(
    tmp_path, capsys, monkeypatch
):
    backbones = [tiny_backbone(name) for name in ("one", "two")]
    monkeypatch.setattr(training, "load_backbones", lambda wanted, *, dtype: backbones)
    monkeypatch.setattr(build, "build_student", lambda config, *, dtype: OneLayer())
    student = ["--student.stem-width", "8", "--student.widths", "8", "16"]
    report = bench(tmp_path, *SMALL, "compact", *student, "--student.depths", "1", "1")
    assert report["students"] == {
        "configured": json.loads(json.dumps(dataclasses.asdict(TINY)))
    }
    alone, aligned = report["rows"]
    assert (alone["backbones"], aligned["backbones"]) == ([], ["one", "two"])
    forward = 2 * 2 * describe_student(TINY, 32, 32).multiply_adds
    peaks = report["device_peaks"]
    for row in (alone, aligned):
        flops = row["model_flops"]
        assert flops["student_forward"] == forward
        assert flops["total"] == flops["student"] + flops["panel"]
        assert 2.5 < row["forwards_in_student_flops"] < 3
        assert row["images_per_second"] == pytest.approx(2e3 / row["ahead_ms"])
        rate = flops["total"] / row["ahead_ms"] / 1e6
        assert row["gflop_per_second"] == pytest.approx(rate)
        assert row["utilisation"] == pytest.approx(rate / peaks["gflop_per_second"])
        slowest = max(row["compute_ms"], row["memory_ms"])
        assert row["ceiling"] == pytest.approx(row["compute_ms"] / slowest)
        assert row["donated_bytes"] < row["memory_bytes"]
        shares = row["shares"]
        assert sum(shares.values()) == pytest.approx(1.0)
        assert shares.keys() == {"input", "panel", "optimiser", "student"}
        assert shares["optimiser"] > 0
        pipeline = row["input_pipeline"]
        assert pipeline["times_the_step"] == pytest.approx(
            pipeline["images_per_second"] / row["images_per_second"]
        )
        assert pipeline["share_kept_when_fed"] == pytest.approx(
            row["ahead_ms"] / row["fed_ms"]
        )
    assert aligned["model_flops"]["panel"] > alone["model_flops"]["panel"] == 0
    share = 1 - alone["ahead_ms"] / aligned["ahead_ms"]
    assert aligned["share_of_panel"] == pytest.approx(share)
    printed = capsys.readouterr().out
    assert "configured aligned to one, two (they take" in printed
    assert printed.count(": input pipeline ") == 2
    assert "matrix products reach" in printed and "depthwise" not in printed


class KnownStep:
    """A step without a network, of a millisecond."""

    batch, num_devices = {}, 1
    flops = bytes_accessed = memory_bytes = donated_bytes = None
    compile_seconds = 1.0
    made = []

    def __init__(self, config, *, panel):
        self.made.append(config)
        self.dispatch_ms = []

    def run(self):
        self.dispatch_ms.append(0.5)

    def run_ahead(self, batches, num_steps):
        for _ in range(num_steps):
            next(batches)
            time.sleep(0.001)


def test_students_stand_side_by_side_with_their_depthwise_convolutions(
    tmp_path, capsys, monkeypatch
):
    known = {"one": TINY, "other": dataclasses.replace(TINY, kernel_size=3)}
    monkeypatch.setattr("fusionproxy_jax.models.variants.STUDENTS", known)
    monkeypatch.setattr(training, "TimedStep", KnownStep)
    monkeypatch.setattr(
        training,
        "bench_depthwise",
        lambda students, **settings: ({**settings, "of": [*students]}, ["all forms"]),
    )
    report = bench(tmp_path, *SMALL, "--students", "one", "other", "one", "--depthwise")
    assert [row["student"] for row in report["rows"]] == ["one", "other"]
    assert [config.student for config in KnownStep.made] == list(known.values())
    for row in report["rows"]:
        # What XLA does not count leaves its cells empty.
        assert row["utilisation"] > 0 and row["compute_ms"] > 0
        assert row["ceiling"] is row["bound_by"] is row["memory_ms"] is None
    assert report["depthwise"] == {
        "of": ["one", "other"],
        "batch_size": 2,
        "side_px": 32,
        "dtype": "float32",
        "num_rounds": 2,
    }
    printed = capsys.readouterr().out
    assert "one: input pipeline" in printed and "other: input pipeline" in printed
    assert printed.endswith("\nall forms\n")


def test_shares_are_of_a_step_that_waits_for_its_batches():
    shares = training.step_shares(
        fed_ms=100.0, ahead_ms=80.0, without_panel_ms=30.0, update_ms=5.0
    )
    assert shares == pytest.approx(
        {"input": 0.2, "panel": 0.5, "optimiser": 0.05, "student": 0.25}
    )
    # Faster when fed than when not, by noise.
    shares = training.step_shares(
        fed_ms=79.0, ahead_ms=80.0, without_panel_ms=81.0, update_ms=8.0
    )
    assert shares == pytest.approx(
        {"input": 0.0, "panel": 0.0, "optimiser": 0.1, "student": 0.9}
    )


def test_a_members_step_is_told_alone_and_in_populations(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build, "build_student", lambda config, *, dtype: OneLayer())
    report = bench(tmp_path, *SMALL, "--members", "3", "--members-at-once", "1", "2")
    alone, *populations = report["population"]
    assert (alone["members"], alone["times_alone"]) == (1, 1.0)
    assert [(row["members"], row["at_once"]) for row in populations] == [(3, 1), (3, 2)]
    for row in populations:
        assert row["times_alone"] == pytest.approx(
            row["member_step_ms"] / alone["member_step_ms"]
        )
        assert row["compile_seconds"] > 0
    assert "times alone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--members", "0"], "--members is 0"),
        (["--members", "2", "--members-at-once", "0"], "both must be at least 1"),
        (["--members-at-once", "2"], "--members-at-once needs --members"),
    ],
)
def test_populations_that_cannot_be_are_refused(
    arguments, words, tmp_path, monkeypatch
):
    monkeypatch.setattr(build, "build_student", lambda config, *, dtype: OneLayer())
    with pytest.raises(FusionProxyError, match=words):
        bench(tmp_path, *SMALL, *arguments)
