"""Compact teachers in training: tiny networks on pairs made here."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from fusionproxy_jax import cli
from fusionproxy_jax.config import (
    COMPACT_PRIOR,
    COMPACT_RESTORER,
    DataConfig,
    OptimizerConfig,
    TeacherTrainingConfig,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.pretrained import (
    load_prior,
    load_restorer,
    save_network,
)
from fusionproxy_jax.training.checkpoint import load_averaged, load_student
from fusionproxy_jax.training.run import execute
from fusionproxy_jax.training.teacher_run import (
    _teacher_run,
    as_network,
    train_teacher,
)

PRIOR = dataclasses.replace(
    COMPACT_PRIOR, base_width=8, multipliers=(1, 2), num_groups=4
)
RESTORER = dataclasses.replace(
    COMPACT_RESTORER,
    base_width=8,
    multipliers=(1, 2),
    cross_attention_levels=(1,),
    content_widths=(8, 8),
    semantic_widths=(8, 8),
    semantic_layers=1,
    semantic_heads=2,
    semantic_hidden=8,
    num_groups=4,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Five pairs of a dark scene with a warm disc; the split holds one out."""
    folder = tmp_path_factory.mktemp("pairs") / "discs"
    rows, columns = np.mgrid[:72, :80]
    for kind in ("visible", "infrared"):
        (folder / kind).mkdir(parents=True)
    for index in range(5):
        rng = np.random.default_rng(index)
        warm = np.hypot(rows - 20 - 6 * index, columns - 40) < 10
        visible = (40 + 20 * np.sin(rows / 3)[..., None] * [1, 0.8, 0.6]).astype(int)
        visible = np.clip(visible + rng.integers(-4, 5, visible.shape), 0, 255)
        infrared = np.where(warm, 220, 60) + rng.integers(-4, 5, warm.shape)
        Image.fromarray(visible.astype(np.uint8)).save(folder / f"visible/{index}.png")
        Image.fromarray(infrared.astype(np.uint8)).save(
            folder / f"infrared/{index}.png"
        )
    return folder


def _config(source, teacher, **changes):
    settings = {
        "teacher": teacher,
        "prior": PRIOR,
        "restorer": RESTORER,
        "data": DataConfig(sources=(str(source),), crop_px=32, batch_size=4),
        "optimizer": OptimizerConfig(
            learning_rate=3e-3, warmup_steps=2, weight_decay=0.0, ema_decay=0.9
        ),
        "num_steps": 6,
        "log_every": 2,
        "checkpoint_every": 2,
        "picture_every": 6,
    }
    return TeacherTrainingConfig(**settings | changes)


def _stop_after(steps):
    """A progress callback that interrupts the run like a user would."""
    import os
    import signal

    def show(progress):
        if progress.step == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    return show


def _execute(config, workdir, **options):
    """Runs without pictures, whose sampler takes long to compile."""
    run = dataclasses.replace(_teacher_run(config), draw=lambda *arguments: {})
    return execute(run, workdir, **options)


def test_an_interrupted_run_ends_like_an_uninterrupted_one(source, tmp_path):
    config = _config(source, "ddfm")
    _execute(config, tmp_path / "whole")
    stopped = _execute(config, tmp_path / "parts", progress=_stop_after(4))
    assert stopped.step == 4 and stopped.signal_number is not None
    assert _execute(config, tmp_path / "parts").step == 6
    whole, _ = load_averaged(tmp_path / "whole")
    parts, meta = load_averaged(tmp_path / "parts")
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    assert meta["config"]["teacher"] == "ddfm"


@pytest.mark.parametrize("teacher", ["ddfm", "mask_difuser"])
def test_a_network_moves_and_shows_what_it_draws(source, tmp_path, teacher):
    config = _config(source, teacher, num_steps=6, log_every=2, picture_every=6)
    train_teacher(config, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 3 and np.all(np.isfinite(losses))
    init_key, _ = jax.random.split(jax.random.key(config.seed))
    first = _teacher_run(config).init_params(init_key)
    moved, _ = load_averaged(tmp_path)
    distances = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), first, moved)
    assert max(jax.tree.leaves(distances)) > 1e-4
    with Image.open(tmp_path / "pictures/0000006.png") as picture:
        # Sources, three samples and their mean side by side.
        assert picture.width > 6 * 320


def test_the_command_trains_and_exports_what_teach_reads(source, tmp_path, capsys):
    settings = [
        f"--data.sources={source}",
        "--data.crop-px=32",
        "--data.batch-size=2",
        "--prior.base-width=8",
        "--prior.multipliers=1",
        "--optimizer.warmup-steps=1",
        "--num-steps=2",
        "--data.validation-fraction=0",
    ]
    workdir, file = tmp_path / "run", tmp_path / "new" / "prior.safetensors"
    assert cli.run(["train-teacher", f"--workdir={workdir}", *settings]) == 0
    assert "2 steps done; ddfm in" in capsys.readouterr().err
    cli.run(["export-teacher", f"--workdir={workdir}", f"--out={file}"])
    prior, _ = load_prior(str(file))
    assert prior.config.base_width == 8
    assert str(tmp_path) not in file.read_bytes().decode("latin-1")
    with pytest.raises(FusionProxyError, match="run of a teacher, not of a student"):
        load_student(workdir)
    with pytest.raises(FusionProxyError, match="teacher 'ddfm'"):
        load_restorer(str(file))


def test_a_run_starts_from_the_weights_of_another(source, tmp_path):
    first = _config(source, "ddfm", num_steps=4)
    _execute(first, tmp_path / "first")
    params, run = load_averaged(tmp_path / "first")
    file = tmp_path / "first.safetensors"
    save_network(file, as_network(run["config"], params))
    # A rate that moves nothing: what comes out is what went in.
    optimizer = OptimizerConfig(learning_rate=1e-12, warmup_steps=0, weight_decay=0.0)
    second = dataclasses.replace(first, start_from=str(file), optimizer=optimizer)
    _execute(second, tmp_path / "second")
    found, _ = load_averaged(tmp_path / "second")
    # The file is float16.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        found,
        params,
    )
    larger = dataclasses.replace(
        second, prior=dataclasses.replace(PRIOR, base_width=16)
    )
    with pytest.raises(FusionProxyError, match="holds another network"):
        train_teacher(larger, tmp_path / "third")


def test_a_crop_that_does_not_fit_the_network_is_refused(source, tmp_path):
    data = DataConfig(sources=(str(source),), crop_px=48, batch_size=4)
    prior = dataclasses.replace(PRIOR, multipliers=(1, 1, 1, 2))
    with pytest.raises(FusionProxyError, match="needs a multiple of 32"):
        train_teacher(_config(source, "ddfm", prior=prior, data=data), tmp_path)


def test_another_configuration_may_not_continue_a_run(source, tmp_path):
    config = _config(source, "ddfm", num_steps=4)
    _execute(config, tmp_path)
    other = dataclasses.replace(config, seed=1)
    with pytest.raises(FusionProxyError, match="seed was 0 and is now 1"):
        train_teacher(other, tmp_path)
