import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_training import TinyStudent, tiny_batch

from fusionproxy_jax.config import (
    Config,
    LossConfig,
    MisalignmentConfig,
    OptimizerConfig,
)
from fusionproxy_jax.losses.routing_variants import (
    learned_routing,
    uniform_routing,
    variance_routing,
)
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.training.knobs import Knobs
from fusionproxy_jax.training.panel_features import make_panel_features
from fusionproxy_jax.training.routing import with_routing
from fusionproxy_jax.training.state import init_state, new_state, student_params
from fusionproxy_jax.training.step import make_train_step, misalign
from fusionproxy_jax.training.update import per_image_keys

SHAKEN = MisalignmentConfig(translation_px=4.0, rotation_deg=5.0, probability=1.0)
KEY = jax.random.key(1)


def knobs_of(loss, misalignment=SHAKEN):
    return Knobs.of(
        Config(
            loss=loss,
            misalignment=misalignment,
            optimizer=OptimizerConfig(ema_decay=0.9),
        )
    )


def make_step(*, dtype=jnp.float32, loss=None, **options):
    module, optimizer = TinyStudent(dtype=dtype), optax.adam(3e-3)
    state = init_state(module, optimizer, jax.random.key(0))
    step = make_train_step(
        lambda params, *pair: module.apply({"params": params}, *pair),
        optimizer,
        knobs=knobs_of(loss or LossConfig()),
        alignment_norm=(loss or LossConfig()).alignment_norm,
        **options,
    )
    return state, jax.jit(step)


@pytest.fixture(scope="module")
def float32_step():
    return make_step(schedule=lambda step: 0.25 * (step + 1))


def assert_twenty_steps_lower_the_loss(state, step):
    batch, losses = tiny_batch(), []
    for _ in range(20):
        state, metrics = step(state, batch, KEY)
        assert metrics["finite"]
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-3:]) < 0.6 * np.mean(losses[:3])
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((state.params, metrics["loss"]))}
    assert dtypes == {jnp.dtype("float32")}


def test_twenty_steps_lower_the_loss(float32_step):
    assert_twenty_steps_lower_the_loss(*float32_step)


def test_twenty_steps_in_bfloat16_lower_the_loss_of_float32_parameters():
    assert_twenty_steps_lower_the_loss(*make_step(dtype=jnp.bfloat16))


def test_the_loss_is_the_weighted_sum_of_its_terms(float32_step):
    state, step = float32_step
    _, metrics = step(state, tiny_batch(), KEY)
    expected = metrics["pixel_loss"] + 0.2 * metrics["structure_loss"]
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-6)
    assert metrics["learning_rate"] == 0.25
    assert "alignment_loss" not in metrics


def test_the_average_moves_with_the_first_updates(float32_step):
    state, step = float32_step
    moved, _ = step(state, tiny_batch(), KEY)
    for old, new, average in zip(
        *map(jax.tree.leaves, (state.params, moved.params, moved.ema_params)),
        strict=True,
    ):
        np.testing.assert_allclose(average, 0.1 * old + 0.9 * new, atol=1e-6)
    assert moved.step == 1


def test_every_image_is_moved_by_its_own_draw():
    infrared = jnp.tile(tiny_batch(1)["infrared"], (3, 1, 1, 1))
    keys = per_image_keys(KEY, jnp.arange(3))
    move = jax.jit(functools.partial(misalign, knobs=knobs_of(LossConfig())))
    moved = np.asarray(move(infrared, keys))
    assert np.abs(moved[0] - moved[1]).max() > 0.1
    assert np.abs(moved[1] - moved[2]).max() > 0.1


def test_every_step_moves_the_images_anew_and_again_the_same_way(float32_step):
    state, step = float32_step
    batch = tiny_batch()
    losses = [
        step(state.replace(step=jnp.asarray(number)), batch, KEY)[1]["loss"]
        for number in (4, 5, 4)
    ]
    assert losses[0] != losses[1]
    assert losses[0] == losses[2]


@pytest.mark.parametrize(
    ("name", "value"), [("ensemble_mean", np.nan), ("visible", np.inf)]
)
def test_a_broken_batch_is_reported_as_not_finite(name, value, float32_step):
    state, step = float32_step
    batch = tiny_batch()
    batch[name][2, 3, 4] = value
    _, metrics = step(state, batch, KEY)
    assert not metrics["finite"]


def block_means(params, images):
    """Features of a backbone that sees pixels averaged over blocks of 4."""
    b, h, w, c = images.shape
    blocks = images.reshape(b, h // 4, 4, w // 4, 4, c).mean(axis=(2, 4))
    return blocks * params["gain"]


def panel_of(*names, scale=1.0, mean_variance=1.0):
    return make_panel_features(
        [
            Backbone(name, "", {"gain": jnp.asarray(index + 1.0)}, block_means)
            for index, name in enumerate(names)
        ],
        [np.broadcast_to(np.float32(scale), 3)] * len(names),
        np.broadcast_to(mean_variance, len(names)),
    )


def batch_with_features(*names):
    batch = tiny_batch()
    for index, name in enumerate(names):
        batch[f"feature_target/{name}"] = np.zeros((4, 8, 8, 3), np.float32)
        batch[f"feature_variance/{name}"] = np.full(
            (4, 16, 16), index + 1.0, np.float32
        )
    return batch


def test_a_panel_adds_the_alignment_term():
    panel = panel_of("left", "right")
    state, step = make_step(panel=panel, routing=variance_routing(1.0))
    _, metrics = step(state, batch_with_features("left", "right"), KEY, panel.frozen)
    without = metrics["pixel_loss"] + 0.2 * metrics["structure_loss"]
    assert metrics["alignment_loss"] > 0
    np.testing.assert_allclose(
        metrics["loss"], without + 0.5 * metrics["alignment_loss"], rtol=1e-5
    )


def test_metrics_say_where_the_routing_goes():
    panel = panel_of("left", "right")
    state, step = make_step(panel=panel, routing=variance_routing(0.0))
    _, metrics = step(state, batch_with_features("left", "right"), KEY, panel.frozen)
    # `right` reacts twice as much, so that the cold limit gives it everything.
    assert metrics["routing_weight/left"] == 0.0
    assert metrics["routing_weight/right"] == 1.0
    assert metrics["routing_entropy"] == 0.0
    np.testing.assert_allclose(
        metrics["alignment_loss"], metrics["feature_distance/right"], rtol=1e-5
    )
    # Twice the features, four times their square.
    np.testing.assert_allclose(
        metrics["feature_distance/right"],
        4.0 * metrics["feature_distance/left"],
        rtol=1e-5,
    )


def test_backbones_are_weighed_by_what_is_usual_for_each():
    panel = panel_of("left", "right", mean_variance=(1.0, 4.0))
    state, step = make_step(panel=panel, routing=variance_routing(1.0))
    _, metrics = step(state, batch_with_features("left", "right"), KEY, panel.frozen)
    # Variances 1 and 2 over the usual 1 and 4.
    left, right = np.exp(1.0), np.exp(0.5)
    np.testing.assert_allclose(
        metrics["routing_weight/left"], left / (left + right), rtol=1e-4
    )


def test_the_literal_norm_sums_over_channels():
    losses = []
    for norm in ("mean", "sum"):
        panel = panel_of("left")
        state, step = make_step(
            loss=LossConfig(alignment_norm=norm), panel=panel, routing=uniform_routing()
        )
        _, metrics = step(state, batch_with_features("left"), KEY, panel.frozen)
        losses.append(metrics["alignment_loss"])
    np.testing.assert_allclose(losses[1], 3 * losses[0], rtol=1e-5)


def test_features_are_divided_by_their_scale():
    distances = []
    for scale in (1.0, 2.0):
        panel = panel_of("left", scale=scale)
        state, step = make_step(panel=panel, routing=variance_routing())
        _, metrics = step(state, batch_with_features("left"), KEY, panel.frozen)
        distances.append(metrics["feature_distance/left"])
    np.testing.assert_allclose(distances[0], 4.0 * distances[1], rtol=1e-5)


def test_a_silent_channel_counts_nothing():
    panel = panel_of("left", scale=[1.0, np.inf, 1.0])
    images = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    (features,) = panel.extract(panel.frozen, images)
    assert not np.any(features[..., 1])
    assert np.all(np.asarray(features[..., 0]) > 0)


def test_a_learned_routing_moves_with_the_student_and_the_panel_does_not():
    module, optimizer = TinyStudent(), optax.sgd(1.0)
    panel, routing = panel_of("left", "right"), learned_routing()
    init = with_routing(student_params(module), routing, 2)
    state = new_state(init, optimizer, jax.random.key(0))
    step = jax.jit(
        make_train_step(
            lambda params, *pair: module.apply({"params": params}, *pair),
            optimizer,
            knobs=knobs_of(LossConfig()),
            panel=panel,
            routing=routing,
        )
    )
    before = jax.tree.map(np.array, panel.frozen)
    moved, metrics = step(
        state, batch_with_features("left", "right"), KEY, panel.frozen
    )
    logits = moved.params["routing"]["logits"]
    # The gradient of a logit is W_k (L_k - L): weight flows to the smaller distance.
    assert logits[0] > 0 > logits[1]
    np.testing.assert_allclose(
        logits[0],
        0.5
        * 0.25
        * (metrics["feature_distance/right"] - metrics["feature_distance/left"]),
        rtol=1e-4,
    )
    jax.tree.map(np.testing.assert_array_equal, before, panel.frozen)


def test_no_gradient_reaches_what_the_teachers_said():
    panel = panel_of("left", "right")
    state, step = make_step(panel=panel, routing=variance_routing(1.0))

    def loss(batch):
        return step(state, batch, KEY, panel.frozen)[1]["loss"]

    gradients = jax.grad(loss)(batch_with_features("left", "right"))
    for name, gradient in gradients.items():
        if name.startswith(("feature_", "ensemble_")):
            assert not np.any(gradient), name
    assert np.any(gradients["visible"])
