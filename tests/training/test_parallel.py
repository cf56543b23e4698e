import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from strided_backbones import tiny_backbone
from tiny_training import TinyStudent, tiny_batch

from fusionproxy_jax.config import Config, MisalignmentConfig
from fusionproxy_jax.losses.routing_variants import learned_routing
from fusionproxy_jax.training.knobs import Knobs
from fusionproxy_jax.training.panel_features import make_panel_features
from fusionproxy_jax.training.parallel import parallelize
from fusionproxy_jax.training.routing import with_routing
from fusionproxy_jax.training.state import (
    init_state,
    moments_and_average,
    new_state,
    student_params,
)
from fusionproxy_jax.training.step import make_train_step

# SGD, because Adam hides a gradient that is wrong by a factor.
OPTIMIZER = optax.sgd(0.01)
MODULE = TinyStudent()
SHAKEN = Knobs.of(
    Config(misalignment=MisalignmentConfig(translation_px=4.0, probability=0.7))
)
STILL = Knobs.of(Config(misalignment=MisalignmentConfig(probability=0.0)))


def make_step(axis_name):
    return make_train_step(
        lambda params, *pair: MODULE.apply({"params": params}, *pair),
        OPTIMIZER,
        knobs=SHAKEN,
        axis_name=axis_name,
    )


def two_steps(mode, num_devices):
    parallel = parallelize(
        make_step,
        mode=mode,
        batch_size=6,
        devices=jax.local_devices()[:num_devices],
    )
    state = parallel.replicate(init_state(MODULE, OPTIMIZER, jax.random.key(0)))
    for _ in range(2):
        batch = parallel.shard_batch(tiny_batch(6))
        state, metrics = parallel.run(state, batch, jax.random.key(3))
    return parallel.unreplicate((state, metrics))


@pytest.fixture(scope="module")
def on_one_device():
    return two_steps("jit", 1)


@pytest.mark.parametrize(
    ("mode", "num_devices"), [("pmap", 1), ("pmap", 2), ("jit", 2)]
)
def test_devices_change_the_speed_and_nothing_else(mode, num_devices, on_one_device):
    assert len(jax.local_devices()) == 2
    state, metrics = two_steps(mode, num_devices)
    expected_state, expected_metrics = on_one_device
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-6),
        state,
        expected_state,
    )
    # Looser: the sum of a thousand equal weights rounds as the compiler orders it.
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=5e-5, err_msg=name)


def two_aligned_steps(mode, num_devices):
    """Two steps with a panel and a learned routing."""
    panel, routing = (
        make_panel_features(
            [tiny_backbone("fine"), tiny_backbone("coarse", stride=8, seed=1)],
            [np.ones(3)] * 2,
            [1.0, 2.0],
        ),
        learned_routing(),
    )

    def make_aligned_step(axis_name):
        return make_train_step(
            lambda params, *pair: MODULE.apply({"params": params}, *pair),
            OPTIMIZER,
            knobs=STILL,
            panel=panel,
            routing=routing,
            axis_name=axis_name,
        )

    parallel = parallelize(
        make_aligned_step,
        mode=mode,
        batch_size=6,
        frozen=panel.frozen,
        devices=jax.local_devices()[:num_devices],
    )
    init = with_routing(student_params(MODULE), routing, 2)
    state = parallel.replicate(new_state(init, OPTIMIZER, jax.random.key(0)))
    generator = np.random.default_rng(0)
    batch = tiny_batch(6)
    for name, grid in (("fine", 8), ("coarse", 4)):
        target = generator.normal(size=(6, grid, grid, 3))
        batch[f"feature_target/{name}"] = target.astype(np.float32)
        batch[f"feature_variance/{name}"] = generator.random((6, 16, 16), np.float32)
    for _ in range(2):
        state, metrics = parallel.run(
            state, parallel.shard_batch(batch), jax.random.key(3)
        )
    return parallel.unreplicate((state, metrics))


def test_devices_change_nothing_with_a_panel_either():
    expected_state, expected_metrics = two_aligned_steps("jit", 1)
    assert np.any(expected_state.params["routing"]["logits"])
    state, metrics = two_aligned_steps("pmap", 2)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=2e-6),
        state,
        expected_state,
    )
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)


def test_the_steps_compared_move_the_parameters(on_one_device):
    state, _ = on_one_device
    first = init_state(MODULE, OPTIMIZER, jax.random.key(0))
    kernel = ("Conv_0", "kernel")
    moved = state.params[kernel[0]][kernel[1]] - first.params[kernel[0]][kernel[1]]
    assert np.abs(moved).max() > 1e-3


@pytest.mark.parametrize("mode", ["pmap", "jit"])
def test_the_state_is_donated_and_results_on_the_host_are_not_touched(mode):
    def make_adder(axis_name):
        def add(state, batch, key, frozen):
            return {"w": state["w"] + frozen}, jnp.sum(batch["x"])

        return add

    parallel = parallelize(make_adder, mode=mode, batch_size=2, frozen=np.float32(1.0))
    host = {"w": np.zeros(1000, np.float32)}
    state = parallel.replicate(host)
    kept = parallel.unreplicate(state)
    batch = parallel.shard_batch({"x": np.zeros((2, 1), np.float32)})
    moved, _ = parallel.run(state, batch, jax.random.key(0))
    moved, _ = parallel.run(moved, batch, jax.random.key(0))
    assert state["w"].is_deleted()
    np.testing.assert_array_equal(parallel.unreplicate(moved)["w"], 2.0)
    np.testing.assert_array_equal(kept["w"], 0.0)
    np.testing.assert_array_equal(host["w"], 0.0)


def test_moments_and_average_may_be_cut_over_the_devices():
    optimizer = optax.adam(0.01)
    parallel = parallelize(
        lambda axis_name: make_train_step(
            lambda params, *pair: MODULE.apply({"params": params}, *pair),
            optimizer,
            knobs=STILL,
            axis_name=axis_name,
        ),
        mode="jit",
        batch_size=6,
        sharded=moments_and_average,
    )
    state = parallel.replicate(init_state(MODULE, optimizer, jax.random.key(0)))
    batch = parallel.shard_batch(tiny_batch(6))
    state, _ = parallel.run(state, batch, jax.random.key(3))

    def share_here(leaf):
        return leaf.addressable_data(0).size / leaf.size

    assert {share_here(leaf) for leaf in jax.tree.leaves(state.params)} == {1.0}
    kernel = ("Conv_0", "kernel")
    for tree in (state.ema_params, state.opt_state[0].mu, state.opt_state[0].nu):
        assert share_here(tree[kernel[0]][kernel[1]]) == 0.5
    # Three values, which two devices cannot share.
    assert share_here(state.ema_params["Conv_1"]["bias"]) == 1.0
