"""Runs that cannot work end before anything is compiled, with one sentence."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_graphs import write_strided_conv
from tiny_training import TinyCache, tiny_config

from fusionproxy_jax import cli
from fusionproxy_jax.config import PanelConfig, TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pairs import load_pairs
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.panel.registry import load_backbones
from fusionproxy_jax.teachers.cache import build_cache
from fusionproxy_jax.training.loop import train

TILE_PX = 32
FRACTION = 0.2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Names for command lines: {pairs}, {cache} of their training part, {panel}."""
    root = tmp_path_factory.mktemp("made")
    pairs = root / "scenes"
    generator = np.random.default_rng(0)
    for kind, shape in (
        ("visible", (TILE_PX, TILE_PX, 3)),
        ("infrared", (TILE_PX,) * 2),
    ):
        (pairs / kind).mkdir(parents=True)
        for index in range(10):
            image = generator.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(image).save(pairs / kind / f"{index}.png")
    panel = write_strided_conv(root / "one.onnx")
    source = load_pairs([pairs])
    train_part, _ = split_pairs(source.ids_and_groups, FRACTION)
    build_cache(
        source.subset(train_part),
        TeacherConfig(teachers=("average", "gaussian"), num_samples=1, tile_px=TILE_PX),
        root / "cache",
        panel=load_backbones((panel,)),
        panel_config=PanelConfig(grid=16),
        accept_failed_gate=True,
    )
    (root / "wrong_key.py").write_text(
        "from fusionproxy_jax.config import Config\n"
        "def get_config():\n    return Config(num_stepz=1)\n"
    )
    (root / "wrong_type.py").write_text(
        "from fusionproxy_jax.config import Config\n"
        "def get_config():\n    return Config(num_steps='100')\n"
    )
    return {"root": root, "pairs": pairs, "cache": root / "cache", "panel": panel}


# All that is needed for a run that would work, but for what each case changes.
USUAL = (
    "--cache {cache} --workdir {workdir} --data.sources {pairs} "
    f"--data.validation-fraction {FRACTION} --data.crop-px {TILE_PX} "
    "--data.batch-size 2 --num-steps 20 --optimizer.warmup-steps 2 "
    "--panel.backbones "
)


def refusal(made, monkeypatch, capsys, tmp_path, arguments):
    """What the command says on stderr in the end; asserts that it did nothing."""
    workdir = tmp_path / "run"
    text = f"{USUAL} {arguments}".format(**made, workdir=workdir)
    monkeypatch.setattr(sys, "argv", ["fusionproxy", "train", *text.split()])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    told = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2, told
    assert [line for line in told if line.startswith("fusionproxy: ")] == told[-1:]
    # A run's folder is there before its first program is compiled.
    assert not workdir.exists()
    return told[-1].removeprefix("fusionproxy: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--data.crop-px 64", "data.crop_px is 64; tiles of the teacher cache"),
        ("--panel.backbones vgg16", "panel.backbones names vgg16; the teacher cache"),
        (
            "--panel.backbones {panel} --loss.routing single:vgg16",
            "loss.routing is 'single:vgg16'; the panel has one#y",
        ),
        ("--loss.routing learned", "loss.routing is 'learned', but the run aligns to"),
        ("--loss.routing best", "loss.routing is 'best'; it must be variance, uniform"),
        ("--loss.routing-temperature 0", "loss.routing_temperature is 0.0; it must be"),
        ("--optimizer.warmup-steps 20", "optimizer.warmup_steps is 20; it must be at"),
        ("--optimizer.warmup-steps -1", "optimizer.warmup_steps is -1; it must be >="),
        ("--optimizer.learning-rate nan", "optimizer.learning_rate is nan; it must be"),
        ("--data.batch-size 0", "data.batch_size is 0; it must be >= 1"),
        ("--optimizer.sharded", "parallel is 'pmap'; it must be `jit`"),
        (
            "--student.widths 8 8 8 8 8 --student.depths 1 1 1 1 1",
            "data.crop_px is 32; a student of 5 stages needs a multiple of 64",
        ),
        ("--start-from {root}/none.safetensors", "none.safetensors"),
        ("--encoder-weights {root}/none.safetensors", "none.safetensors"),
        ("--start-from nano", "does not fit this network"),
        ("--data.sources {root}/none", "none"),
        (
            "--teacher.num-samples 3",
            "teacher.num_samples is 3, but the teacher cache in {cache} was made with",
        ),
        ("--teacher.tile-px 64", "teacher.tile_px is 64, but the teacher cache in "),
        (
            "--data.validation-fraction 0.5",
            "data.validation_fraction 0.5 of these data.sources holds out scenes/",
        ),
        ("--workdir {cache}", "--workdir is {cache}, the folder of the teacher cache"),
        ("--num-stepz 30", "did you mean --num-steps?"),
        ("--config {root}/wrong_key.py", "Config has no setting 'num_stepz'; did you"),
        ("--config {root}/wrong_type.py", "num_steps is '100'; it must be a whole num"),
        ("--seed 4294967296", "seed is 4294967296; it must be between 0 and"),
    ],
)
def test_a_run_that_cannot_work_is_refused_before_it_begins(
    arguments, sentence, made, monkeypatch, capsys, tmp_path
):
    told = refusal(made, monkeypatch, capsys, tmp_path, arguments)
    assert sentence.format(**made) in told


def test_a_disk_without_room_is_refused(made, monkeypatch, capsys, tmp_path):
    usage = shutil._ntuple_diskusage(10**12, 10**12, 3_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    told = refusal(made, monkeypatch, capsys, tmp_path, "")
    assert "has 3 MB free, but this run needs about" in told


def test_a_configuration_that_the_library_is_given_is_checked_too(tmp_path):
    config = tiny_config()
    object.__setattr__(config.optimizer, "learning_rate", "3e-3")
    with pytest.raises(FusionProxyError, match="optimizer.learning_rate is '3e-3'; it"):
        train(config, TinyCache(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_the_cases_change_is_all_that_keeps_them_from_training(
    made, tmp_path, tiny_student
):
    config = tiny_config(num_steps=3, panel=PanelConfig(backbones=()))
    data = dataclasses.replace(
        config.data,
        sources=(str(made["pairs"]),),
        validation_fraction=FRACTION,
        batch_size=2,
    )
    config = dataclasses.replace(config, data=data)
    assert train(config, made["cache"], tmp_path / "run").step == 3
