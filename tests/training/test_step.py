import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_training import TinyStudent, tiny_batch

from fusionproxy_jax.config import LossConfig, MisalignmentConfig
from fusionproxy_jax.training.state import init_state
from fusionproxy_jax.training.step import (
    PanelFeatures,
    make_train_step,
    misalign,
)
from fusionproxy_jax.training.update import per_image_keys

SHAKEN = MisalignmentConfig(translation_px=4.0, rotation_deg=5.0, probability=1.0)
KEY = jax.random.key(1)


def make_step(*, dtype=jnp.float32, **options):
    module, optimizer = TinyStudent(dtype=dtype), optax.adam(3e-3)
    state = init_state(module, optimizer, jax.random.key(0))
    step = make_train_step(
        lambda params, *pair: module.apply({"params": params}, *pair),
        optimizer,
        loss=LossConfig(),
        misalignment=SHAKEN,
        ema_decay=0.9,
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
    keys = per_image_keys(KEY, 3, None)
    moved = np.asarray(
        jax.jit(functools.partial(misalign, config=SHAKEN))(infrared, keys)
    )
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


def panel_of(*names: str) -> PanelFeatures:
    """Backbones that see pixels averaged over blocks of 4, scaled."""

    def extract(fused):
        b, h, w, c = fused.shape
        blocks = fused.reshape(b, h // 4, 4, w // 4, 4, c).mean(axis=(2, 4))
        return tuple((k + 1.0) * blocks for k in range(len(names)))

    return PanelFeatures(names, extract, mean_variance=(1.0,) * len(names))


def test_a_panel_adds_the_alignment_term():
    state, step = make_step(panel_features=panel_of("left", "right"))
    batch = tiny_batch()
    for name in ("left", "right"):
        batch[f"feature_target/{name}"] = np.zeros((4, 4, 4, 3), np.float32)
        batch[f"feature_variance/{name}"] = np.ones((4, 8, 8), np.float32)
    _, metrics = step(state, batch, KEY)
    without = metrics["pixel_loss"] + 0.2 * metrics["structure_loss"]
    assert metrics["alignment_loss"] > 0
    np.testing.assert_allclose(
        metrics["loss"], without + 0.5 * metrics["alignment_loss"], rtol=1e-5
    )


def test_a_panel_is_left_out_for_batches_without_targets():
    state, step = make_step(panel_features=panel_of("left"))
    _, metrics = jax.eval_shape(step, state, tiny_batch(), KEY)
    assert "alignment_loss" not in metrics
