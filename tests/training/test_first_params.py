import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from models.published_files import changed, convnext, write
from tiny_training import TinyCache, tiny_config

from fusionproxy_jax.checkpoints.weights import flatten
from fusionproxy_jax.commands.export import training_summary
from fusionproxy_jax.config import OptimizerConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.models.pretrained_encoders.loading import load_pretrained_encoders
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.training import build
from fusionproxy_jax.training.checkpoint import load_student
from fusionproxy_jax.training.first_params import first_params
from fusionproxy_jax.training.loop import train
from fusionproxy_jax.training.state import student_params


def _config(tmp_path, **changes):
    path = write(tmp_path / "imagenet.safetensors", convnext().state)
    student = changed("convnext_v2 of transformers", widths=(6,), depths=(1,))
    return tiny_config(
        student=student, encoder_weights=str(path), num_steps=2, **changes
    )


def test_only_the_encoders_differ_from_random_parameters(tmp_path):
    config, told = _config(tmp_path), []
    random = student_params(build_student(config.student, grouped=True))
    begun = first_params(config, random, tell=told.append)
    # Many small draws: not worth optimising.
    expected, found = jax.jit(
        lambda key: (random(key), begun(key)),
        compiler_options={"xla_backend_optimization_level": 0},
    )(jax.random.key(3))
    encoders = load_pretrained_encoders(config.encoder_weights, config.student)
    expected["visible_encoder"] = encoders.visible
    expected["infrared_encoder"] = encoders.infrared
    assert told == [encoders.report]
    assert flatten(found).keys() == flatten(expected).keys()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_layers_that_the_file_lacks_stay_random(tmp_path, monkeypatch):
    config = _config(tmp_path)
    monkeypatch.setattr(
        "fusionproxy_jax.training.first_params.load_pretrained_encoders",
        lambda path, student: ({"a": {"x": 1.0}}, {"b": {"y": 2.0}}, ""),
    )
    random = {"a": {"x": 0.0, "z": 0.5}, "b": {"y": 0.0}}
    params = {"visible_encoder": random, "infrared_encoder": random, "decoder": 7.0}
    found = first_params(config, lambda key: params, tell=print)(jax.random.key(0))
    assert found == {
        "visible_encoder": {"a": {"x": 1.0, "z": 0.5}, "b": {"y": 0.0}},
        "infrared_encoder": {"a": {"x": 0.0, "z": 0.5}, "b": {"y": 2.0}},
        "decoder": 7.0,
    }


def test_a_run_begins_with_the_file_and_goes_on_without_it(tmp_path, monkeypatch):
    # Compiles faster.
    grouped = functools.partial(build_student, grouped=True)
    monkeypatch.setattr(build, "build_student", grouped)
    optimizer = OptimizerConfig(learning_rate=1e-12, warmup_steps=0, weight_decay=0.0)
    config = _config(tmp_path, optimizer=optimizer)
    encoders = load_pretrained_encoders(config.encoder_weights, config.student)
    told = []
    train(config, TinyCache(), tmp_path / "run", tell=told.append)
    assert told == ["no alignment to a panel", encoders.report]
    _, params, run = load_student(tmp_path / "run")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        params["visible_encoder"],
        encoders.visible,
    )
    summary = training_summary(run)["config"]
    assert summary["encoder_weights"] == "imagenet.safetensors"
    assert str(tmp_path) not in json.dumps(summary)

    (tmp_path / "imagenet.safetensors").unlink()
    again = train(config, TinyCache(), tmp_path / "run", tell=told.append)
    assert again.step == 2
    assert told[2:] == ["no alignment to a panel"]
    with pytest.raises(FusionProxyError, match="no checkpoint file"):
        train(config, TinyCache(), tmp_path / "new")
    other = dataclasses.replace(config, encoder_weights=None)
    with pytest.raises(FusionProxyError, match="encoder_weights was"):
        train(other, TinyCache(), tmp_path / "run")


def test_encoders_have_one_beginning():
    with pytest.raises(
        FusionProxyError, match="it must be none with start_from 'base'"
    ):
        tiny_config(start_from="base", encoder_weights="imagenet.safetensors")
