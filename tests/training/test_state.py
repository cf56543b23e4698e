import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import TinyStudent

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.training.state import (
    build_optimizer,
    decay_mask,
    empty_state,
    init_state,
    learning_rate_schedule,
    update_ema,
)


def test_the_learning_rate_rises_then_follows_a_cosine_to_zero():
    rate = learning_rate_schedule(0.5, warmup_steps=4, num_steps=24)
    rising = [0.1, 0.2, 0.3, 0.4]
    falling = [0.25 * (1 + np.cos(np.pi * k / 20)) for k in range(21)]
    np.testing.assert_allclose(
        [rate(jnp.asarray(step)) for step in range(25)], rising + falling, atol=1e-6
    )


@pytest.mark.parametrize("warmup_steps", [-1, 10, 11])
def test_a_warm_up_that_does_not_fit_the_run_is_refused(warmup_steps):
    with pytest.raises(FusionProxyError, match="less than num_steps 10"):
        learning_rate_schedule(1.0, warmup_steps=warmup_steps, num_steps=10)


def test_weight_decay_acts_on_kernels_of_the_real_student_only():
    config = StudentConfig(stem_width=4, widths=(8,), depths=(1,))
    module = build_student(config, dtype=jnp.dtype("float32"))
    images = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    heat = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), images, heat)["params"]
    decayed = {True: set(), False: set()}
    for path, value in jax.tree_util.tree_leaves_with_path(decay_mask(params)):
        decayed[value].add(path[-1].key)
    assert decayed == {True: {"kernel"}, False: {"bias", "scale"}}


def optimizer_for(method="adamw", **changes):
    options = dict(
        learning_rate=0.1,
        warmup_steps=0,
        num_steps=10,
        weight_decay=0.0,
        gradient_clip=1.0,
    )
    return build_optimizer(method, **options | changes)


@pytest.mark.parametrize("method", ["adamw", "sgd"])
def test_without_a_gradient_only_kernels_shrink(method):
    optimizer, _ = optimizer_for(method, weight_decay=0.5)
    params = {"conv": {"kernel": jnp.ones(3), "bias": jnp.ones(3)}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.05, atol=1e-7)
    np.testing.assert_array_equal(updates["conv"]["bias"], 0.0)


def test_sgd_moves_by_the_clipped_gradient_and_its_momentum():
    optimizer, _ = optimizer_for("sgd", gradient_clip=2.0)
    params, gradient = {"w": jnp.zeros(())}, {"w": jnp.asarray(5.0)}
    first, state = optimizer.update(gradient, optimizer.init(params), params)
    second, _ = optimizer.update(gradient, state, params)
    np.testing.assert_allclose(first["w"], -0.1 * 2.0, rtol=1e-6)
    rate = 0.05 * (1 + np.cos(np.pi / 10))
    np.testing.assert_allclose(second["w"], -rate * (2.0 + 0.9 * 2.0), rtol=1e-6)


def test_the_average_follows_the_written_recursion():
    generator = np.random.default_rng(0)
    values = generator.normal(size=40)
    expected, average = 0.0, {"w": jnp.zeros(())}
    for step, value in enumerate(values):
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        average = update_ema(average, {"w": jnp.asarray(value)}, step=step, decay=0.7)
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5)


def test_the_average_forgets_the_initial_weights_early():
    average = {"w": jnp.ones(())}
    for step in range(20):
        average = update_ema(average, {"w": jnp.zeros(())}, step=step, decay=0.999)
    assert average["w"] < 1e-5


def test_empty_and_initial_states_have_one_structure():
    optimizer, _ = optimizer_for()
    made = init_state(TinyStudent(), optimizer, jax.random.key(0))
    empty = empty_state(TinyStudent(), optimizer)
    assert jax.tree.structure(made) == jax.tree.structure(empty)
    for left, right in zip(jax.tree.leaves(made), jax.tree.leaves(empty), strict=True):
        assert (left.shape, left.dtype) == (right.shape, right.dtype)
