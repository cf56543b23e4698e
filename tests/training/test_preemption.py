"""Runs that are killed and stopped, and go on, here or on other devices."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from test_topologies import free_port
from tiny_training import TinyCache, metric_rows, tiny_config

from fusionproxy_jax.training.checkpoint import Checkpoints
from fusionproxy_jax.training.loop import train

SCRIPT = Path(__file__).with_name("run_training.py")
NUM_STEPS = 60
SETTINGS = {"num_steps": NUM_STEPS, "checkpoint_every": 2}


def start(workdir, seconds_per_step, *processes, num_devices=2, **changes):
    return subprocess.Popen(
        [
            *(sys.executable, str(SCRIPT), str(workdir), str(seconds_per_step)),
            *(json.dumps(SETTINGS | changes), *map(str, processes)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}",
            # All of them compile the same step.
            "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "compiled"),
        },
    )


def signal_after(process, number, num_steps):
    """Signals at a random moment after `num_steps` steps; returns all steps done."""
    steps = [process.stdout.readline() for _ in range(num_steps)]
    time.sleep(random.uniform(0.0, 0.2))
    process.send_signal(number)
    rest, errors = process.communicate()
    assert all(steps), errors
    return [int(step) for step in [*steps, *rest.split()]]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        from tiny_training import build_tiny

        from fusionproxy_jax.training import build

        patch.setattr(build, "build_student", build_tiny)
        train(tiny_config(**SETTINGS), TinyCache(), workdir)
    return workdir


def assert_same_run(workdir, expected, **tolerance):
    states = [Checkpoints(path).restore_arrays() for path in (workdir, expected)]
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, **tolerance),
        *states,
    )
    rows, others = metric_rows(workdir), metric_rows(expected)
    assert [row["step"] for row in rows] == list(range(1, NUM_STEPS + 1))
    for row, other in zip(rows, others, strict=True):
        np.testing.assert_allclose(row["loss"], other["loss"], **tolerance)


def test_a_run_that_dies_ten_times_ends_as_one_that_never_did(uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    for life in range(10):
        process = start(workdir, 0.05)
        number = random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        # Before, during or after a save; the first life leaves something to go on from.
        steps = signal_after(process, number, random.randint(3 if life == 0 else 1, 4))
        if number == signal.SIGKILL:
            assert process.returncode == -number
        else:
            assert process.returncode == 128 + number
            assert Checkpoints(workdir).latest_step() == steps[-1]
    last = start(workdir, 0.0)
    _, errors = last.communicate()
    assert last.returncode == 0, errors
    assert_same_run(workdir, uninterrupted, rtol=0, atol=0)


def test_a_run_goes_on_on_other_devices(uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    stopped = start(workdir, 0.05, num_devices=2)
    signal_after(stopped, signal.SIGTERM, 3)
    other = start(workdir, 0.05, num_devices=1, parallel="jit")
    signal_after(other, signal.SIGTERM, 3)
    last = start(workdir, 0.0, num_devices=3, gradient_accumulation=2)
    _, errors = last.communicate()
    assert last.returncode == 0, errors
    # Adam makes much of how a small gradient was rounded.
    assert_same_run(workdir, uninterrupted, rtol=2e-3, atol=2e-3)


def test_several_processes_stop_together_and_one_goes_on(uninterrupted, tmp_path):
    workdir, port = tmp_path / "run", free_port()
    first, second = (
        start(workdir, 0.05, port, index, 2, num_devices=1) for index in range(2)
    )
    # Its communication library has lines of its own there.
    steps = (line.strip() for line in first.stdout if line.strip().isdigit())
    done = [next(steps) for _ in range(3)]
    # The one that writes is not the one that is told.
    second.send_signal(signal.SIGTERM)
    done += steps
    for process in (first, second):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGTERM, errors
    saved = Checkpoints(workdir).latest_step()
    assert saved == int(done[-1]) < NUM_STEPS
    last = start(workdir, 0.0)
    _, errors = last.communicate()
    assert last.returncode == 0, errors
    assert_same_run(workdir, uninterrupted, rtol=2e-3, atol=2e-3)
