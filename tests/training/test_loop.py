import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_training import TinyCache, make_tile, metric_rows, tiny_batch, tiny_config

from fusionproxy_jax.checkpoints.weights import save_weights
from fusionproxy_jax.commands.train import Train
from fusionproxy_jax.commands.training_progress import progress_line
from fusionproxy_jax.config import (
    DataConfig,
    LossConfig,
    OptimizerConfig,
    PanelConfig,
    StudentConfig,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.build import build_training
from fusionproxy_jax.training.checkpoint import Checkpoints, load_student
from fusionproxy_jax.training.loop import train
from fusionproxy_jax.training.pictures import held_out_pairs
from fusionproxy_jax.training.reporting import Progress
from fusionproxy_jax.training.state import empty_state


def write_pairs(root: Path, num_pairs: int) -> None:
    for name in ("visible", "infrared"):
        (root / name).mkdir(parents=True)
    for index in range(num_pairs):
        tile = make_tile(index)
        visible = tile["visible"][: 40 + index]
        infrared = np.round(255 * tile["infrared"][: 40 + index]).astype(np.uint8)
        Image.fromarray(visible).save(root / f"visible/{index}.png")
        Image.fromarray(infrared).save(root / f"infrared/{index}.png")


def test_a_run_leaves_its_settings_metrics_and_pictures(tmp_path, tiny_student):
    write_pairs(tmp_path / "pairs", 6)
    config = tiny_config(
        data=DataConfig(
            sources=(str(tmp_path / "pairs"),),
            validation_fraction=0.5,
            batch_size=4,
            crop_px=32,
        ),
        num_steps=6,
        log_every=2,
        picture_every=4,
        parallel="jit",
    )
    seen = []
    workdir = tmp_path / "run"
    result = train(config, TinyCache(), workdir, progress=seen.append)

    assert (result.step, result.signal_number) == (6, None)
    stored = json.loads((workdir / "config.json").read_text())
    assert stored["data"]["batch_size"] == 4
    rows = metric_rows(workdir)
    # Reports are due every second step and, before it is kept, at checkpoint 3.
    assert [row["step"] for row in rows] == [2, 3, 4, 6]
    assert rows[-1].keys() == {
        "step",
        "loss",
        "pixel_loss",
        "structure_loss",
        "gradient_norm",
        "learning_rate",
        "images_per_second",
    }
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert list((workdir / "tensorboard").iterdir())
    pictures = sorted((workdir / "pictures").iterdir())
    assert [path.name for path in pictures] == ["0000004.png", "0000006.png"]
    # Three pairs were held out, three images each.
    with Image.open(pictures[0]) as sheet:
        width, height = sheet.size
    assert width == 3 * 320 + 4 * 8
    assert height > 3 * 200
    assert [progress.step for progress in seen] == [2, 3, 4, 6]
    assert seen[-1].seconds_left == 0
    assert Checkpoints(workdir).latest_step() == 6


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(tmp_path, tiny_student):
    config = tiny_config(log_every=100, checkpoint_every=2, num_steps=40)
    # One tile of forty is broken, and comes up within the first ten batches of four.
    cache = TinyCache(num_tiles=40, broken=True)
    with pytest.raises(FusionProxyError) as caught:
        train(config, cache, tmp_path)
    words = str(caught.value)
    step = int(words.partition("stopped at step ")[2].partition(":")[0])
    assert 1 <= step <= 10
    kept = Checkpoints(tmp_path).latest_step()
    assert kept == ((step - 1) // 2 * 2 or None)
    assert f"checkpoint {kept} is kept" in words or kept is None
    rows = metric_rows(tmp_path)
    assert all(row["step"] < step for row in rows)


def test_a_record_that_cannot_be_read_ends_the_run_with_its_own_sentence(
    tmp_path, tiny_student
):
    class DamagedCache(TinyCache):
        def __getitem__(self, index):
            if index == 7:
                raise FusionProxyError("record 7 of the cache is damaged")
            return super().__getitem__(index)

    with pytest.raises(FusionProxyError, match="^record 7 of the cache is damaged"):
        train(tiny_config(), DamagedCache(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"panel": PanelConfig(backbones=("vgg16",))},
            "panel.backbones names vgg16; the teacher cache in cache has features of "
            "none; add it",
        ),
        (
            {"panel": PanelConfig(backbones=("auto", "vgg16"))},
            "panel.backbones is auto vgg16; auto is all that the cache has and stands",
        ),
        (
            {"loss": LossConfig(routing="learned")},
            "loss.routing is 'learned', but the run aligns to nothing",
        ),
        ({"num_steps": 2}, "warmup_steps is 2; .*num_steps 2"),
        ({"data": DataConfig(batch_size=4, crop_px=64)}, "crop_px is 64"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, words, tmp_path, tiny_student):
    with pytest.raises(FusionProxyError, match=words):
        train(tiny_config(**changes), TinyCache(), tmp_path)


def test_a_crop_the_student_cannot_halve_is_refused(tmp_path):
    config = tiny_config(
        student=StudentConfig(widths=(8,) * 5, depths=(1,) * 5),
        data=DataConfig(batch_size=4, crop_px=32),
    )
    with pytest.raises(FusionProxyError, match="multiple of 64"):
        train(config, TinyCache(), tmp_path)


def test_a_workdir_that_is_a_file_is_refused(tmp_path, tiny_student):
    (tmp_path / "run").write_text("")
    with pytest.raises(FusionProxyError, match="could not write the run to"):
        train(tiny_config(), TinyCache(), tmp_path / "run")


def test_a_single_clip_trains_without_pictures(tmp_path):
    write_pairs(tmp_path / "clip", 1)
    pairs = held_out_pairs(
        [str(tmp_path / "clip")], validation_fraction=0.1, num_pairs=4
    )
    assert pairs == []


def test_the_real_student_trains_in_bfloat16_on_float32_parameters():
    config = tiny_config(
        student=StudentConfig(stem_width=4, widths=(8,), depths=(1,)),
        compute_dtype="bfloat16",
        parallel="jit",
    )
    training = build_training(config)
    state = empty_state(training.parts.module, training.parts.optimizer)
    moved, metrics = jax.eval_shape(
        training.parallel.run, state, tiny_batch(), jax.random.key(0)
    )
    assert training.parts.module.dtype == jnp.bfloat16
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    assert metrics["loss"].dtype == jnp.float32


def test_progress_is_one_line():
    progress = Progress(50, 20_000, 1.25, 15_960.0, {"loss": 0.12345})
    assert progress_line(progress) == (
        "step 50/20000  loss 0.1235  1.25 steps/s  4h26 left"
    )


@pytest.mark.parametrize(
    ("signal_number", "name", "code"), [(15, "SIGTERM", 0), (2, "SIGINT", 130)]
)
def test_the_command_says_what_stopped_it_and_fails_only_when_interrupted(
    signal_number, name, code, tmp_path, monkeypatch, capsys
):
    from fusionproxy_jax.training import loop

    def stopped(config, cache, workdir, *, progress, tell, wandb):
        tell("no alignment to a panel")
        progress(Progress(7, 10, float("nan"), float("nan"), {"loss": 1.0}))
        return loop.TrainingResult(step=7, signal_number=signal_number)

    monkeypatch.setattr(loop, "train", stopped)
    assert Train(cache=tmp_path, workdir=tmp_path).run() == code
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "no alignment to a panel"
    assert shown[1] == "step 7/10  loss 1.0000  nan steps/s  ? left"
    assert shown[2].startswith(f"stopped by {name} at step 7, checkpoint saved")


def test_the_command_says_when_there_is_no_cache(tmp_path):
    command = [sys.executable, "-m", "fusionproxy_jax.cli", "train"]
    options = ["--cache", str(tmp_path / "none"), "--workdir", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, *options, "--num-steps", "600"],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "none" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_the_weights_of_a_student(tmp_path, tiny_student):
    train(tiny_config(num_steps=3), TinyCache(), tmp_path / "first")
    _, params, run = load_student(tmp_path / "first")
    save_weights(tmp_path / "first.safetensors", params, {})
    optimizer = OptimizerConfig(learning_rate=1e-12, warmup_steps=0, weight_decay=0.0)
    config = tiny_config(
        num_steps=2, optimizer=optimizer, start_from=str(tmp_path / "first.safetensors")
    )
    train(config, TinyCache(), tmp_path / "second")
    _, found, _ = load_student(tmp_path / "second")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, params
    )
    with pytest.raises(FusionProxyError, match="does not fit this network"):
        train(
            tiny_config(num_steps=3, start_from="base"), TinyCache(), tmp_path / "third"
        )
