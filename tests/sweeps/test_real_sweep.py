"""Sweeps that really train: a cache with a panel, a tiny student, the command."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_graphs import write_strided_conv

from fusionproxy_jax.config import PanelConfig, TeacherConfig
from fusionproxy_jax.input_pipeline.synthetic import SyntheticPairs
from fusionproxy_jax.panel.registry import load_backbones
from fusionproxy_jax.sweeps.member_files import read_metrics, read_scores, read_status
from fusionproxy_jax.sweeps.report.sheets import (
    newest_sheet,
    num_columns,
    square_cells,
)
from fusionproxy_jax.teachers.cache import build_cache
from fusionproxy_jax.training.checkpoint import load_student

TILE_PX = 32
FILE = """
from dataclasses import replace
from fusionproxy_jax.config import *

def sweep():
    base = Config(
        student=StudentConfig(
            encoder="ultra_light", kernel_size=3, stem_stride=4, stem_width=8,
            widths=(8,), depths=(1,), normalization="affine", activation="relu",
            decoder_join="add", output="luma",
        ),
        panel=PanelConfig(backbones={panel}, grid=16),
        data=DataConfig(
            sources=({pairs!r},), validation_fraction=0.5, batch_size=2, crop_px=32
        ),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=1),
        num_steps=4,
        log_every=1,
        checkpoint_every=100,
        picture_every=100,
    )
    return {{
        "cold": replace(base, loss=LossConfig(routing_temperature=1e-3)),
        "hot": replace(base, loss=LossConfig(routing_temperature=float("inf"))),
        "wild": replace(base, optimizer=OptimizerConfig(
            learning_rate=1e30, warmup_steps=1
        )),
    }}
"""


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return tuple(
        write_strided_conv(folder / f"{name}.onnx", seed)
        for seed, name in enumerate(("one", "two"))
    )


@pytest.fixture(scope="module")
def taught(panel, tmp_path_factory):
    return build_cache(
        SyntheticPairs(4, height=TILE_PX, width=TILE_PX, seed=0),
        TeacherConfig(teachers=("average", "gaussian"), num_samples=1, tile_px=TILE_PX),
        tmp_path_factory.mktemp("cache"),
        panel=load_backbones(panel),
        panel_config=PanelConfig(grid=16),
        accept_failed_gate=True,
    ).directory


@pytest.fixture(scope="module")
def file(panel, pairs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("file") / "sweep.py"
    path.write_text(FILE.format(panel=panel, pairs=str(pairs)))
    return path


@pytest.fixture(scope="module")
def command(file, taught, tmp_path_factory):
    """Starts `fusionproxy sweep` in a process of its own; they share compiled code."""
    script = str(Path(__file__).with_name("run_real_sweep.py"))
    compiled = str(tmp_path_factory.mktemp("compiled"))
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_backend_optimization_level=0",
    }

    def start(workdir, *arguments, seconds_per_report=0.0):
        flags = ["--cache", str(taught), "--workdir", str(workdir), *arguments]
        return subprocess.Popen(
            [sys.executable, script, str(seconds_per_report), str(file), *flags],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    return start


@pytest.fixture(scope="module")
def killed(command, tmp_path_factory):
    """The folder of a sweep, killed on its way, and what it told."""
    workdir, told = tmp_path_factory.mktemp("killed"), []
    with command(workdir, seconds_per_report=0.5) as process:
        for line in process.stderr:
            told.append(line)
            if "step 2/4" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0, "".join(told)
    return workdir, told


@pytest.fixture(scope="module")
def swept(killed, command):
    """The folder of the killed sweep, run to its end by the same command."""
    workdir, _ = killed
    with command(workdir) as process:
        told = process.stderr.read()
    assert process.returncode == 1, told
    assert "1 of 3 members died: wild at step 1" in told
    return workdir


def rows_of(workdir, name):
    return read_metrics(workdir / "members" / name)


def test_a_killed_sweep_has_saved_and_reported(killed):
    workdir, told = killed
    assert "stopped by SIGTERM, state saved; the same command continues" in told[-1]
    states = [
        read_status(workdir / "members" / name) for name in ("cold", "hot", "wild")
    ]
    assert [status.state for status in states] == ["stopped", "stopped", "dead"]
    assert 2 <= states[0].step < 4
    assert (workdir / "report/report.md").exists()


def test_the_good_finish_and_are_scored_and_the_wild_one_dies(swept):
    for name in ("cold", "hot"):
        directory = swept / "members" / name
        status = read_status(directory)
        assert (status.state, status.step, status.num_members) == ("finished", 4, 3)
        assert status.seconds_per_step > 0
        assert read_scores(directory).num_pairs == 2
        assert [row["step"] for row in rows_of(swept, name)] == [1, 2, 3, 4]
        assert np.isfinite([row["loss"] for row in rows_of(swept, name)]).all()
        # What `fusionproxy export --workdir` reads.
        assert load_student(directory)[2]["step"] == 4
    dead = read_status(swept / "members/wild")
    assert (dead.state, dead.died_at, dead.step) == ("dead", 1, 0)
    assert read_scores(swept / "members/wild") is None
    assert np.isnan([row["loss"] for row in rows_of(swept, "wild")]).all()


def test_the_report_shows_what_the_members_did(swept):
    report = json.loads((swept / "report/report.json").read_text())
    members = report["members"]
    assert report["varied"] == [
        "loss.routing_temperature",
        "optimizer.learning_rate",
    ]
    assert report["best"] in ("cold", "hot")
    assert members["hot"]["training"]["routing_entropy"] == pytest.approx(1, abs=1e-4)
    cold = members["cold"]["training"]
    assert cold["routing_entropy"] < 0.5
    weights = [cold[name] for name in cold if name.startswith("routing_weight/")]
    assert len(weights) == 2 and sum(weights) == pytest.approx(1, abs=1e-4)
    names = {path.name for path in (swept / "report").iterdir()}
    assert names >= {"curves.png", "entropy.png", "pictures.png", "routing.png"}
    assert "| died at step 1 |" in (swept / "report/report.md").read_text()


def test_its_pictures_are_cut_as_they_were_drawn(swept):
    directory = swept / "members/cold"
    assert num_columns(newest_sheet(directory, "[0-9]*.png")) == 3
    tiles = square_cells(newest_sheet(directory, "routing-*.png"))
    # Four tiles: visible, infrared, two weights and the entropy.
    assert [len(tile) for tile in tiles] == [5] * 4
    one, two = (weights.astype(int) for weights in tiles[0][2:4])
    np.testing.assert_allclose(one + two, 255, atol=1)


def test_a_task_of_two_does_its_share_and_reports_what_is_there(
    swept, command, tmp_path
):
    with command(tmp_path, "--index", "0", "--count", "2") as process:
        told = process.stderr.read()
    assert process.returncode == 0, told
    # The other two are the second task's; alone, it does what it does beside others.
    assert [path.name for path in (tmp_path / "members").iterdir()] == ["cold"]
    found, expected = (
        [row["loss"] for row in rows_of(workdir, "cold")]
        for workdir in (tmp_path, swept)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert [one["state"] for one in report["members"].values()] == [
        *("finished", "not begun", "not begun")
    ]
    assert report["best"] == "cold"
