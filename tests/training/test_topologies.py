"""One run on one device, on eight, and on two processes of two devices."""

import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_training import metric_rows

from fusionproxy_jax.training.checkpoint import Checkpoints

SCRIPT = Path(__file__).parent / "run_topology.py"
# SGD, because Adam hides a gradient that is wrong by a factor.
SGD = {"optimizer.method": "sgd"}
ADAMW = {"optimizer.method": "adamw"}
JIT = {"parallel": "jit"}
SHARDED = {"parallel": "jit", "optimizer.sharded": True}
ACCUMULATED = {"gradient_accumulation": 2}


def start(folder, changes, *, num_devices, port=0, index=0, count=1):
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    return subprocess.Popen(
        [
            *(sys.executable, str(SCRIPT), str(folder)),
            *map(str, (port, index, count)),
            *map(json.dumps, changes),
        ],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    finish(start(folder, [SGD, ADAMW, SGD | ACCUMULATED], num_devices=1))
    return folder


@pytest.fixture(scope="module")
def eight_devices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight")
    ways = [SGD, SGD | JIT, SGD | SHARDED, SGD | JIT | ACCUMULATED, ADAMW]
    finish(start(folder, ways, num_devices=8))
    return folder


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("two"), free_port()
    ways = [SGD, SGD | JIT, SGD | SHARDED, ADAMW]
    finish(
        *(
            start(folder, ways, num_devices=2, port=port, index=index, count=2)
            for index in range(2)
        )
    )
    return folder


def final_state(folder, number):
    return Checkpoints(folder / str(number)).restore_arrays()


def assert_same(folder, number, expected_folder, expected_number, *, atol):
    state = final_state(folder, number)
    expected = final_state(expected_folder, expected_number)
    assert state["step"] == expected["step"] == 5
    for part, tolerance in (
        ("params", {"atol": atol}),
        ("ema_params", {"atol": atol}),
        # Sums of gradients, of the size of one.
        ("opt_state", {"atol": 10 * atol, "rtol": 1e-5}),
    ):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, **tolerance),
            state[part],
            expected[part],
        )
    ours, theirs = (
        metric_rows(folder / str(number)),
        metric_rows(expected_folder / str(expected_number)),
    )
    assert len(ours) == len(theirs) == 5
    for row, other in zip(ours, theirs, strict=True):
        for name in ("loss", "pixel_loss", "structure_loss", "gradient_norm"):
            np.testing.assert_allclose(row[name], other[name], rtol=1e-4, err_msg=name)


def test_the_runs_compared_move_the_parameters(one_device):
    state = final_state(one_device, 0)
    kernel = state["params"]["Conv_1"]["kernel"]
    average = state["ema_params"]["Conv_1"]["kernel"]
    assert np.abs(kernel - average).max() > 1e-4


def test_parts_one_after_the_other_give_the_gradient_of_the_whole(one_device):
    assert_same(one_device, 2, one_device, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("number", "way"),
    [(0, "pmap"), (1, "jit"), (2, "sharded"), (3, "accumulated")],
)
def test_eight_devices_are_as_one(number, way, one_device, eight_devices):
    assert_same(eight_devices, number, one_device, 0, atol=1e-6)


@pytest.mark.parametrize(("number", "way"), [(0, "pmap"), (1, "jit"), (2, "sharded")])
def test_two_processes_of_two_devices_are_as_one(
    number, way, one_device, two_processes
):
    assert_same(two_processes, number, one_device, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("fixture", "number"), [("eight_devices", 4), ("two_processes", 3)]
)
def test_adamw_agrees_to_its_sensitivity(fixture, number, one_device, request):
    # Its first updates are the sign of the gradient: where that is rounding, another
    # order of summation moves a parameter by some of the learning rate, 3e-3.
    assert_same(request.getfixturevalue(fixture), number, one_device, 1, atol=3e-4)
