"""Whole runs that align to a panel: a real cache, a real ONNX file, a tiny student."""

import copy
import dataclasses
import signal

import jax
import numpy as np
import pytest
from tiny_graphs import write_strided_conv
from tiny_training import metric_rows, tiny_config

from fusionproxy_jax.config import LossConfig, PanelConfig, TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.synthetic import SyntheticPairs
from fusionproxy_jax.losses.routing_variants import single_routing
from fusionproxy_jax.panel.registry import load_backbones
from fusionproxy_jax.runtime.images import read_visible
from fusionproxy_jax.teachers.cache import build_cache
from fusionproxy_jax.training.checkpoint import load_averaged, load_student
from fusionproxy_jax.training.loop import train
from fusionproxy_jax.training.panel_features import load_panel_features
from fusionproxy_jax.training.routing_pictures import RoutingPictures

TILE_PX = 32


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return write_strided_conv(folder / "one.onnx"), write_strided_conv(
        folder / "two.onnx", 1
    )


@pytest.fixture(scope="module")
def cache(panel, tmp_path_factory):
    return build_cache(
        SyntheticPairs(6, height=TILE_PX, width=TILE_PX, seed=0),
        TeacherConfig(teachers=("average", "gaussian"), num_samples=1, tile_px=TILE_PX),
        tmp_path_factory.mktemp("cache"),
        panel=load_backbones(panel),
        panel_config=PanelConfig(grid=16),
        accept_failed_gate=True,
    )


def panel_config(panel, **changes):
    config = tiny_config(
        panel=PanelConfig(backbones=panel, grid=16),
        num_steps=6,
        checkpoint_every=3,
        picture_every=6,
    )
    return dataclasses.replace(config, **changes)


def test_a_run_with_a_panel_tells_where_its_routing_goes(
    cache, panel, tmp_path, tiny_student
):
    config = panel_config(panel)
    train(config, cache, tmp_path / "run")
    rows = metric_rows(tmp_path / "run")
    for row in rows:
        weights = row["routing_weight/one#y"], row["routing_weight/two#y"]
        np.testing.assert_allclose(sum(weights), 1.0, atol=1e-5)
        assert 0 < row["routing_entropy"] <= 1
        loss = config.loss
        np.testing.assert_allclose(
            row["loss"],
            row["pixel_loss"]
            + loss.structure_weight * row["structure_loss"]
            + loss.alignment_weight * row["alignment_loss"],
            rtol=1e-4,
        )
    picture = read_visible(tmp_path / "run/pictures/routing-0000006.png")
    # Four tiles; visible, infrared, two weights and the entropy beside each other.
    assert picture.shape[0] >= 4 * TILE_PX
    assert picture.shape[1] >= 5 * TILE_PX


def test_a_stopped_run_with_a_learned_routing_ends_like_one_that_was_not(
    cache, panel, tmp_path, tiny_student
):
    config = panel_config(panel, loss=LossConfig(routing="learned"))
    train(config, cache, tmp_path / "whole")

    def stop(progress):
        if progress.step == 4:
            signal.raise_signal(signal.SIGTERM)

    # The fourth step is reported while the fifth one computes.
    assert train(config, cache, tmp_path / "stopped", progress=stop).step == 5
    train(config, cache, tmp_path / "stopped")
    (whole, _), (stopped, _) = (
        load_averaged(tmp_path / name) for name in ("whole", "stopped")
    )
    jax.tree.map(np.testing.assert_array_equal, whole, stopped)
    assert np.any(whole["routing"]["logits"])


def test_a_released_student_has_no_routing(cache, panel, tmp_path, tiny_student):
    config = panel_config(panel, loss=LossConfig(routing="learned"), num_steps=3)
    train(config, cache, tmp_path / "run")
    _, params, _ = load_student(tmp_path / "run")
    assert "routing" not in params


def test_auto_is_all_that_the_cache_has(
    cache, panel, tmp_path, tiny_student, monkeypatch
):
    entries = dict(zip(("one#y", "two#y"), panel, strict=True))
    monkeypatch.setattr(
        "fusionproxy_jax.training.panel_features.locate", entries.__getitem__
    )
    told = []
    train(
        panel_config(("auto",), num_steps=3), cache, tmp_path / "run", tell=told.append
    )
    row = metric_rows(tmp_path / "run")[0]
    assert {"routing_weight/one#y", "routing_weight/two#y"} <= row.keys()
    assert told == [
        "aligned to one#y, two#y; whole tiles of 32 px, as features allow no crops and "
        "flips"
    ]


def test_an_annealed_temperature_ends_where_it_says(
    cache, panel, tmp_path, tiny_student
):
    loss = LossConfig(routing_temperature=1e3, routing_temperature_end=1e-9)
    train(panel_config(panel, loss=loss), cache, tmp_path / "run")
    entropy = [row["routing_entropy"] for row in metric_rows(tmp_path / "run")]
    assert entropy[0] > 0.99
    assert entropy[-1] < 0.2


def test_features_taught_anew_are_another_run(cache, panel, tmp_path, tiny_student):
    config = panel_config(panel, num_steps=3)
    train(config, cache, tmp_path / "run")
    again = copy.copy(cache)
    changed = [
        dataclasses.replace(entry, mean_variance=2 * entry.mean_variance)
        for entry in cache.panel
    ]

    class Changed(type(cache)):
        panel = tuple(changed)

    again.__class__ = Changed
    with pytest.raises(FusionProxyError, match="the panel or its weights are others"):
        train(config, again, tmp_path / "run")


def test_unfinished_features_are_not_dropped(cache, tmp_path, tiny_student):
    class Unfinished(type(cache)):
        unfinished_panel = ("two#y",)

    begun = copy.copy(cache)
    begun.__class__ = Unfinished
    with pytest.raises(FusionProxyError, match="features of two#y in .* unfinished"):
        train(panel_config(("auto",)), begun, tmp_path / "run")


def test_without_weight_the_panel_is_left_alone(cache, panel, tmp_path, tiny_student):
    loss, told = LossConfig(alignment_weight=0.0), []
    config = panel_config(panel, loss=loss, num_steps=3)
    train(config, cache, tmp_path / "run", tell=told.append)
    assert told == ["no alignment to a panel"]
    assert "alignment_loss" not in metric_rows(tmp_path / "run")[0]


def test_pictures_show_the_weights_of_a_tile(cache, panel, tmp_path):
    tiles = cache.with_panel(("one#y", "two#y"))
    features = load_panel_features(panel, cache, dtype="float32")
    # All weight on the second backbone.
    pictures = RoutingPictures(tiles, features, num_tiles=1)
    picture = read_visible(pictures.write(tmp_path, 0, single_routing(1, 2), None))
    columns = [part.mean() for part in np.array_split(picture, 5, axis=1)]
    assert columns[2] < columns[3]


def test_one_backbone_of_the_cache_may_be_chosen(cache, panel, tmp_path, tiny_student):
    config = panel_config(panel[1:], num_steps=3)
    train(config, cache, tmp_path / "run")
    assert "routing_weight/two#y" in metric_rows(tmp_path / "run")[0]
    assert "routing_weight/one#y" not in metric_rows(tmp_path / "run")[0]


def test_without_a_panel_the_cache_is_cropped_as_ever(cache, tmp_path, tiny_student):
    config = panel_config((), num_steps=3)
    train(config, cache, tmp_path / "run")
    assert "alignment_loss" not in metric_rows(tmp_path / "run")[0]


@pytest.mark.parametrize(
    ("name", "seed", "message"),
    [
        ("three.onnx", 0, "names three#y; the teacher cache .* has features of one#y"),
        ("one.onnx", 7, "weights of one#y are not those the teacher cache"),
    ],
)
def test_backbones_that_do_not_fit_the_cache_are_refused(
    name, seed, message, cache, tmp_path, tiny_student
):
    other = write_strided_conv(tmp_path / name, seed)
    with pytest.raises(FusionProxyError, match=message):
        train(panel_config((other,)), cache, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_single_backbone_is_refused(cache, panel, tmp_path, tiny_student):
    config = panel_config(panel, loss=LossConfig(routing="single:vgg16"))
    with pytest.raises(FusionProxyError, match="'single:vgg16'; the panel has one#y, "):
        train(config, cache, tmp_path / "run")
