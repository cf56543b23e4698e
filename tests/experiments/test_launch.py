"""Launchers of sweeps: real submitit and Ray on this machine, commands for the rest."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.input_pipeline.synthetic import SyntheticPairs
from fusionproxy_jax.teachers.cache import build_cache

LAUNCH = Path(__file__).parents[2] / "experiments" / "launch"

# Two members. A task whose number has a file in the folder `strikes` sends the signal
# that stands in it to itself or to what started it, once.
SWEEP = """
import dataclasses, os, pathlib, signal, sys, time
from fusionproxy_jax.config import Config, DataConfig, OptimizerConfig, StudentConfig
from fusionproxy_jax.config import PanelConfig

if "--index" in sys.argv:
    index = sys.argv[sys.argv.index("--index") + 1]
    strike = pathlib.Path(__file__).parent / "strikes" / index
    if strike.exists():
        whom, name = strike.read_text().split()
        strike.unlink()
        os.kill(os.getpid() if whom == "itself" else os.getppid(), signal.Signals[name])
        time.sleep(60)

def sweep():
    config = Config(
        student=StudentConfig(
            stem_width=4, widths=(4,), depths=(1,), normalization="affine",
            activation="relu", response_norm=False, stem_stride=4, kernel_size=3,
        ),
        panel=PanelConfig(backbones=()),
        data=DataConfig(batch_size=2, crop_px=32, validation_fraction=0.0),
        optimizer=OptimizerConfig(warmup_steps=0),
        num_steps=2,
    )
    return {f"seed={seed}": dataclasses.replace(config, seed=seed) for seed in (0, 1)}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    built = build_cache(
        SyntheticPairs(4, height=32, width=32, seed=0),
        TeacherConfig(teachers=("average",), num_samples=1, tile_px=32),
        tmp_path_factory.mktemp("cache"),
        accept_failed_gate=True,
    )
    return built.directory


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def launch(tmp_path, cache, compiled):
    """Runs a launcher on two tasks; returns exit code, standard error and table."""
    (tmp_path / "strikes").mkdir()
    file = tmp_path / "sweep.py"
    file.write_text(SWEEP)
    workdir = tmp_path / "a sweep"

    def run(script, *options, strikes=None):
        for index, strike in (strikes or {}).items():
            (tmp_path / "strikes" / str(index)).write_text(strike)
        paths = ["--cache", str(cache), "--workdir", str(workdir)]
        done = subprocess.run(
            [sys.executable, LAUNCH / script, file, *paths, "--tasks", "2", *options],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ
            | {
                "JAX_COMPILATION_CACHE_DIR": str(compiled),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_AUTH_MODE": "disabled",
            },
        )
        report = workdir / "report" / "report.md"
        assert report.exists(), done.stdout + done.stderr
        assert not any((tmp_path / "strikes").iterdir())
        return done.returncode, done.stderr, report.read_text()

    return run


def test_a_preempted_task_is_requeued_and_a_killed_one_only_reported(launch):
    code, errors, table = launch(
        *("slurm.py", "--cluster", "local"),
        strikes={0: "parent SIGUSR2", 1: "itself SIGKILL"},
    )
    assert code == 1
    assert "task 0" not in errors
    assert re.search("task 1, job .*, failed: -9", errors)
    assert re.search(r"\| *seed=0 *\|.*finished", table)
    assert not re.search(r"\| *seed=1 *\|.*finished", table)


def test_a_task_whose_ray_worker_is_killed_is_done_by_another(launch):
    code, errors, table = launch(
        *("ray_sweep.py", "--cpus", "0.5"), strikes={1: "parent SIGKILL"}
    )
    assert code == 0, errors
    for name in ("seed=0", "seed=1"):
        assert re.search(rf"\| *{name} *\|.*finished", table)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Stand-ins for a cluster's programs; returns what they wrote down."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "srun": 'exec "$@"',
        "scontrol": f'echo scontrol "$@" >> {tmp_path}/log',
        "sleep": f'echo sleep "$@" >> {tmp_path}/log',
        "fusionproxy": f'exec {sys.executable} {tmp_path}/fusionproxy.py "$@"',
    }
    for name, line in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    (tmp_path / "fusionproxy.py").write_text(
        "import json, pathlib, signal, sys, time\n"
        f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        "def write(line):\n"
        "    with log.open('a') as file:\n"
        "        print(line, file=file)\n"
        "def save(*_):\n"
        "    write('saved')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "write(json.dumps(sys.argv[1:]))\n"
        "time.sleep(60 if '--long' in sys.argv else 0)\n"
        "sys.exit(3 if '--wrong' in sys.argv else 0)\n"
    )
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    log = tmp_path / "log"
    return lambda: log.read_text().splitlines() if log.exists() else []


def _started(command, tools):
    process = subprocess.Popen(command)
    for _ in range(1000):
        if tools():
            return process
        time.sleep(0.01)
    raise AssertionError("nothing was started")


def _sbatch(*arguments):
    return ["bash", str(LAUNCH / "slurm.sbatch"), *arguments]


def test_the_batch_script_gives_a_task_of_an_array_its_share(tools, monkeypatch):
    for name, value in (("ID", 4), ("MIN", 3), ("COUNT", 2)):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    subprocess.run(_sbatch("sweep", "a file.py", "--workdir", "w"), check=True)
    arguments = ["sweep", "a file.py", "--workdir", "w", "--index", "1", "--count", "2"]
    assert tools() == [json.dumps(arguments)]


def test_the_batch_script_ends_as_what_it_runs(tools):
    assert subprocess.run(_sbatch("train", "--wrong")).returncode == 3
    assert tools() == [json.dumps(["train", "--wrong"])]


@pytest.mark.parametrize(
    ("number", "code", "then"),
    [
        (signal.SIGUSR1, 138, "scontrol requeue 11_4"),
        (signal.SIGTERM, 143, "sleep 3600"),
    ],
)
def test_the_batch_script_saves_and_goes_back_to_the_queue(
    number, code, then, tools, monkeypatch
):
    # Of a task whose time is nearly up; and of a preempted one, which Slurm requeues if
    # it has not ended by itself.
    for name, value in (("JOB", 11), ("TASK", 4)):
        monkeypatch.setenv(f"SLURM_ARRAY_{name}_ID", str(value))
    for name in ("MIN", "COUNT"):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", "4")
    process = _started(_sbatch("sweep", "--long"), tools)
    (step,) = _children(process.pid)
    os.kill(step, number)
    assert process.wait(timeout=20) == code
    assert tools()[1:] == ["saved", then]


def _children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def _xpk(*arguments):
    done = subprocess.run(
        [sys.executable, LAUNCH / "xpk.py", *arguments], capture_output=True, text=True
    )
    return (
        done.returncode,
        [shlex.split(line) for line in done.stdout.splitlines()],
        done,
    )


OPTIONS = ("--cluster", "c", "--tpu-type", "v5litepod-8", "--docker-image", "i")


def test_a_run_over_the_hosts_of_a_slice_is_one_workload(tools):
    run = ["train", "--cache", "/data/my cache", "--workdir", "/data/w"]
    code, (command,), _ = _xpk(
        "run", "--dry-run", *OPTIONS, "--num-slices", "2", "--", *run
    )
    assert code == 0
    assert command[:5] == ["xpk", "workload", "create", "--workload", "run"]
    assert command[5:-2] == [
        "--max-restarts",
        "20",
        "--termination-grace-period-seconds",
        "120",
        *OPTIONS,
        "--num-slices",
        "2",
    ]
    assert command[-2] == "--command"
    # As the container runs it.
    subprocess.run(["bash", "-c", f"({command[-1]}) & wait $!"], check=True)
    assert tools() == [json.dumps([*run, "--distributed", "on"])]


def test_a_sweep_over_slices_is_a_workload_a_task(tools):
    run = ["sweep", "it's.py", "--cache", "$HOME/c", "--workdir", "w"]
    code, commands, _ = _xpk("s", "--tasks", "3", "--dry-run", *OPTIONS, "--", *run)
    assert code == 0
    assert [command[4] for command in commands] == ["s-0", "s-1", "s-2"]
    for command in commands:
        subprocess.run(["bash", "-c", f"({command[-1]}) & wait $!"], check=True)
    assert tools() == [
        json.dumps([*run, "--index", str(index), "--count", "3"]) for index in range(3)
    ]


def test_a_preempted_workload_saves_and_fails_so_that_it_is_restarted(tools):
    _, (command,), _ = _xpk("run", "--dry-run", *OPTIONS, "--", "train", "--long")
    process = _started(["bash", "-c", command[-1]], tools)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    assert tools()[1:] == ["saved"]


def test_a_workload_that_fails_tells_its_own_exit_code(tools):
    _, (command,), _ = _xpk("run", "--dry-run", *OPTIONS, "--", "train", "--wrong")
    assert subprocess.run(["bash", "-c", command[-1]]).returncode == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "follows after --"),
        (["run", "--", "teach"], "follows after --"),
        (["run", "--", "sweep", "f.py"], "--tasks is needed for a sweep"),
        (["run", "--tasks", "2", "--", "train"], "for nothing else"),
    ],
)
def test_what_no_workload_can_be_made_of_is_said(arguments, words):
    code, commands, done = _xpk(*arguments)
    assert code == 2
    assert not commands
    assert words in done.stderr
