"""`fusionproxy ablate` from its arguments to its table."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusionproxy_jax import cli
from fusionproxy_jax.ablation.plan import plan_rows
from fusionproxy_jax.ablation.rows import TABLE_4
from fusionproxy_jax.ablation.speed_file import student_key, write_speeds
from fusionproxy_jax.config import Config
from fusionproxy_jax.config.experiment_file import load_experiment
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.synthetic import synthetic_pair
from fusionproxy_jax.runtime.images import write_image

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "ablations.py"
CONFIG = """
from fusionproxy_jax.config import *

def get_config():
    return Config(
        student=StudentConfig(stem_width=8, widths=(8, 16), depths=(1, 1)),
        teacher=TeacherConfig(
            teachers=("gaussian", "average"),
            num_samples=3,
            ddfm=DDFMConfig(mode="balanced", num_steps=2),
            tile_px=32,
            tiles_per_image=1,
        ),
        panel=PanelConfig(backbones=()),
        data=DataConfig(
            sources=({source!r},), batch_size=2, crop_px=32, validation_fraction=0.34
        ),
        optimizer=OptimizerConfig(warmup_steps=1),
        num_steps=3,
        log_every=1,
        checkpoint_every=1,
        picture_every=10000,
    )
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    root = tmp_path_factory.mktemp("ablate")
    for index in range(6):
        pair = synthetic_pair(index, height=48, width=56)
        infrared = (255 * pair["infrared"]).round().astype("uint8")
        for name, image in (("visible", pair["visible"]), ("infrared", infrared)):
            folder = root / "made_up" / name
            folder.mkdir(parents=True, exist_ok=True)
            write_image(folder / f"{index}.png", image)
    file = root / "config.py"
    file.write_text(CONFIG.format(source=str(root / "made_up")))
    return file


def _ablate(experiment, workdir, *options):
    return [
        "ablate",
        f"--config={experiment}",
        f"--workdir={workdir}",
        f"--cache-dir={experiment.parent / 'caches'}",
        *options,
    ]


def test_rows_are_trained_measured_and_reported(
    experiment, tmp_path, capsys, monkeypatch
):
    def measure(students, workdir):
        (student,) = students.values()
        cost = {"parameters": 2_000_000, "frames_per_second": 31.25}
        key = student_key(dataclasses.asdict(student))
        found = {"size": [480, 640], "processor": "a chip", "threads": 2}
        write_speeds(workdir, {**found, "students": {key: cost}})

    # How it measures is tested where it is defined.
    monkeypatch.setattr("fusionproxy_jax.ablation.speed.measure_speeds", measure)
    options = ("--set", "num_steps=2", "--rows", "c")
    assert cli.run(_ablate(experiment, tmp_path, *options)) == 0
    captured = capsys.readouterr()
    # What is c too: l and n; h has nothing to align.
    assert "3 of 16 rows measured" in captured.out
    assert "part 1 of 1: rows c (dual teacher (average + gaussian), N=3" in captured.err
    assert "samples: 100%" in captured.err
    text = (tmp_path / "table.md").read_text()
    assert "| (c) | dual teacher (average + gaussian), N=3 each | 84 |" in text
    assert "Frames/s: the student as ONNX" in text and "| 2.00 M | 31.2 |" in text
    (tmp_path / "table.md").unlink()
    assert cli.run(["ablate", f"--workdir={tmp_path}", "--report"]) == 0
    assert "3 of 16 rows measured" in capsys.readouterr().out
    assert (tmp_path / "table.md").read_text() == text


def test_a_row_that_dies_is_told_with_exit_code_1(experiment, tmp_path, capsys):
    options = ("--set", "optimizer.learning_rate=1e30", "--rows=b", "--no-speed")
    assert cli.run(_ablate(experiment, tmp_path, *options)) == 1
    captured = capsys.readouterr()
    assert "rows died: b at step" in captured.err
    assert "died at step" in (tmp_path / "table.md").read_text()
    assert not (tmp_path / "speed.json").exists()


def test_stopped_by_sigterm_it_saves_and_the_same_command_continues(
    experiment, tmp_path
):
    command = [
        *(sys.executable, "-m", "fusionproxy_jax.cli"),
        *_ablate(experiment, tmp_path, "--rows=b", "--no-speed"),
        *("--set", "num_steps=100000", "checkpoint_every=100000"),
    ]
    reached = []
    for stop in (signal.SIGTERM, signal.SIGKILL):
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ
        ) as process:
            for line in process.stderr:
                step = line.partition("step ")[2].partition("/100000")[0]
                if step.isdecimal() and int(step) > 2:
                    reached.append(int(step))
                    process.send_signal(stop)
                    break
            rest = process.stderr.read()
        if stop == signal.SIGTERM:
            assert process.returncode == 0, rest
            assert "stopped by SIGTERM, state saved; the same command" in rest
            text = (tmp_path / "table.md").read_text()
            assert "stopped, step " in text and "of 100000" in text
    # The first report of the second call comes after where the first one stopped.
    assert reached[1] > reached[0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--rows=q"], "--rows names 'q'; rows are a to p, written as a-l"),
        (["--table=3"], "--table is 3; the paper's ablation is Table 4"),
        (["--members-at-once=0"], "--members-at-once is 0"),
        (["--rows=d"], "rows d vary the alignment to a panel, and there is none"),
        (["--set", "num_step=3"], "--set num_step is no setting; instead of num_step"),
        (["--samples=1"], "Table 4 takes away from two teachers with two samples"),
        (["--samples-of=nowhere"], "nowhere holds no teacher cache; build one with"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(experiment, tmp_path, options, told):
    with pytest.raises(FusionProxyError, match=told):
        cli.run(_ablate(experiment, tmp_path / "w", "--rows=a", *options))
    assert not (tmp_path / "w").exists()


def test_what_is_missing_is_told_in_one_sentence(tmp_path):
    with pytest.raises(FusionProxyError, match="needs --cache-dir; only --report"):
        cli.run(["ablate", f"--workdir={tmp_path}"])
    with pytest.raises(FusionProxyError, match="holds no ablation; make one with"):
        cli.run(["ablate", f"--workdir={tmp_path}", "--report"])
    with pytest.raises(FusionProxyError, match="no data source is given"):
        cli.run(
            [
                "ablate",
                f"--workdir={tmp_path}",
                f"--cache-dir={tmp_path}",
                *("--rows=a", "--set", "panel.backbones="),
            ]
        )


def test_the_experiment_of_the_repository_has_all_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONPROXY_DATA", str(tmp_path))
    base = load_experiment(str(EXPERIMENT), Config)
    planned = plan_rows(base, TABLE_4, ("one", "two"))
    assert list(planned) == list(TABLE_4)
    assert dataclasses.replace(base) == planned["l"].config
    monkeypatch.delenv("FUSIONPROXY_DATA")
    with pytest.raises(FusionProxyError, match="FUSIONPROXY_DATA is not set"):
        load_experiment(str(EXPERIMENT), Config)
