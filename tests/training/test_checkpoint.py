import dataclasses
import json
import logging
import resource
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_training import TinyCache, tiny_config

from fusionproxy_jax.config import OptimizerConfig, StudentConfig, from_json
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.checkpoint import Checkpoints, load_student
from fusionproxy_jax.training.loop import train
from fusionproxy_jax.training.run_identity import (
    check_same_run,
    run_metadata,
)
from fusionproxy_jax.training.state import TrainState


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve steps that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        from tiny_training import build_tiny

        from fusionproxy_jax.training import build

        patch.setattr(build, "build_student", build_tiny)
        assert train(tiny_config(), TinyCache(), workdir).step == 12
    return workdir


def test_a_finished_run_is_not_trained_further(finished, tiny_student):
    calls = []
    result = train(tiny_config(), TinyCache(), finished, progress=calls.append)
    assert (result.step, result.signal_number, calls) == (12, None, [])


def test_the_student_of_a_run_comes_with_what_it_was_made_of(finished):
    config, params, metadata = load_student(finished)
    assert config == StudentConfig()
    assert params["Conv_0"]["kernel"].shape == (3, 3, 4, 8)
    assert {type(leaf) for leaf in jax.tree.leaves(params)} == {np.ndarray}
    state = Checkpoints(finished).restore_arrays()
    assert not np.array_equal(
        params["Conv_0"]["kernel"], state["params"]["Conv_0"]["kernel"]
    )
    assert metadata["step"] == 12
    assert metadata["cache_hash"] == "feed0123"
    assert metadata["jax_version"] == jax.__version__
    assert metadata["config"]["num_steps"] == 12


def test_the_student_configuration_survives_json():
    config = tiny_config(student=StudentConfig(widths=(8, 16), depths=(1, 3)))
    meta = run_metadata(config, cache_hash="", cache_config="")
    stored = json.loads(json.dumps(meta))["config"]["student"]
    assert from_json(StudentConfig, stored) == config.student


@pytest.mark.parametrize(
    ("changes", "cache", "words"),
    [
        (
            {"optimizer": OptimizerConfig(learning_rate=1e-3, warmup_steps=2)},
            TinyCache(),
            "optimizer.learning_rate was 0.003 and is now 0.001",
        ),
        ({"num_steps": 24}, TinyCache(), "cosine depends on num_steps"),
        ({"seed": 5, "num_steps": 24}, TinyCache(), "num_steps .*; seed was 0"),
        ({}, TinyCache(hash="beef"), "the teacher cache is another one"),
    ],
)
def test_other_settings_are_refused_by_name(
    changes, cache, words, finished, tiny_student
):
    before = (finished / "config.json").read_text()
    with pytest.raises(FusionProxyError, match=words):
        train(tiny_config(**changes), cache, finished)
    assert (finished / "config.json").read_text() == before


def test_settings_that_say_when_to_report_and_how_to_compute_may_change(tmp_path):
    old, new = (
        run_metadata(config, cache_hash="", cache_config="")
        for config in (
            tiny_config(),
            tiny_config(
                log_every=9,
                keep_checkpoints=7,
                picture_every=1,
                parallel="jit",
                gradient_accumulation=2,
                optimizer=dataclasses.replace(tiny_config().optimizer, sharded=True),
                data=dataclasses.replace(tiny_config().data, num_workers=3),
            ),
        )
    )
    check_same_run(old, new, workdir=tmp_path)


def test_a_folder_without_a_run_is_refused_and_left_alone(tmp_path):
    with pytest.raises(FusionProxyError, match="no checkpoints in .*fusionproxy train"):
        load_student(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_a_run_killed_before_its_first_checkpoint_is_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(FusionProxyError, match="no finished checkpoint"):
        load_student(tmp_path)


@pytest.mark.parametrize("damaged", ["state/_METADATA", "meta/metadata", "state/d"])
def test_a_damaged_checkpoint_is_named(damaged, finished, tmp_path, tiny_student):
    workdir = tmp_path / "run"
    subprocess.run(["cp", "-r", str(finished), str(workdir)], check=True)
    path = workdir / "checkpoints/12" / damaged
    for file in [path] if path.is_file() else path.iterdir():
        file.write_bytes(file.read_bytes()[:7])
    with pytest.raises(FusionProxyError, match="checkpoints/12 cannot be read"):
        load_student(workdir)
    with pytest.raises(FusionProxyError, match="delete that folder"):
        train(tiny_config(), TinyCache(), workdir)


def test_a_disk_that_takes_no_more_is_one_sentence(tmp_path, monkeypatch):
    # What the writing threads log is for other programs.
    monkeypatch.setattr(logging.getLogger("absl"), "disabled", True)
    weights = np.random.default_rng(0).normal(size=100_000)
    state = TrainState(step=5, params={"w": weights}, ema_params={}, opt_state=())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = Checkpoints(tmp_path, keep=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(FusionProxyError) as caught:
            checkpoints.save(5, state, {})
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == (
        f"could not write a checkpoint to {tmp_path}/checkpoints: File too large"
    )
    assert Checkpoints(tmp_path).latest_step() is None
