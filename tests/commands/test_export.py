import json

import numpy as np
import onnx
import pytest
from tiny_student import TINY, exported, random_params

from fusionproxy_jax import cli
from fusionproxy_jax.checkpoints.weights import load_weights, save_weights
from fusionproxy_jax.commands.export import training_summary, without_folders
from fusionproxy_jax.errors import FusionProxyError


def test_weights_are_exported_again(tmp_path, capsys):
    weights, out = exported() / "tiny.safetensors", tmp_path / "out"
    cli.run(["export", "--weights", str(weights), "--out", str(out), "--name", "again"])
    assert sorted(path.name for path in out.iterdir()) == [
        "again.onnx",
        "again.safetensors",
        "again_camera.onnx",
    ]
    assert "largest difference from Flax" in capsys.readouterr().out
    params, metadata = load_weights(out / "again.safetensors")
    np.testing.assert_equal(params, random_params())
    assert metadata["training"] == {"step": 7}


def test_a_run_is_exported_with_a_summary(tmp_path, monkeypatch):
    run = {
        "config": {
            "data": {"sources": ["/home/someone/roadscene"], "seed": 3},
            "teacher": {"mode": "balanced"},
        },
        "cache_config": '{"mode": "salient"}',
        "step": 20,
        "code_version": "1",
        "jax_version": "2",
        "cache_hash": "x",
    }
    monkeypatch.setattr(
        "fusionproxy_jax.training.checkpoint.load_student",
        lambda workdir: (TINY, random_params(), run),
    )
    cli.run(["export", "--workdir", "run", "--out", str(tmp_path)])
    model = onnx.load(tmp_path / "base.onnx")
    properties = {p.key: p.value for p in model.metadata_props}
    assert json.loads(properties["training"]) == training_summary(run)
    assert "someone" not in properties["training"]
    assert "roadscene" in properties["training"]
    # The cache that was trained on says what taught.
    assert '{"mode": "salient"}' in properties["training"]


def _other_widths(tmp_path):
    path = tmp_path / "other.safetensors"
    student = {"stem_width": 8, "widths": [8, 24], "depths": [1, 1]}
    save_weights(path, random_params(), {"student": student})
    return ["--weights", str(path)]


def _no_student(tmp_path):
    path = tmp_path / "none.safetensors"
    save_weights(path, {"x": np.zeros(1, np.float32)}, {})
    return ["--weights", str(path)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda path: [], "either --workdir RUN or --weights"),
        (lambda path: ["--workdir", "a", "--weights", "b"], "either --workdir"),
        (lambda path: ["--weights", str(path / "none")], "no weights file"),
        (lambda path: ["--workdir", str(path / "none")], "no checkpoints"),
        (lambda path: ["--weights", "w", "--name", "a/b"], "no file name"),
        (_other_widths, "does not fit this network"),
        (_no_student, "does not say which student"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, arguments, words):
    out = tmp_path / "out"
    with pytest.raises(FusionProxyError, match=words):
        cli.run(["export", "--out", str(out), *arguments(tmp_path)])
    assert not out.exists()


def test_no_folder_of_this_machine_is_told_of_a_run():
    told = without_folders(
        {
            "data": {"sources": ["/home/me/pairs/msrs"]},
            "start_from": "/home/me/runs/first.safetensors",
            "encoder_weights": "/home/me/timm/encoder.safetensors",
            "panel": {
                "backbones": [
                    "dinov2",
                    "vgg16=/home/me/vgg.pth",
                    "onnx:/home/me/d.onnx#t",
                ],
                "grid": 64,
            },
        }
    )
    assert told == {
        "data": {"sources": ["msrs"]},
        "start_from": "first.safetensors",
        "encoder_weights": "encoder.safetensors",
        "panel": {
            "backbones": ["dinov2", "vgg16=vgg.pth", "onnx:d.onnx#t"],
            "grid": 64,
        },
    }
