import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.losses import total
from fusionproxy_jax.losses.alignment import FeatureStatistics, alignment_loss
from fusionproxy_jax.losses.routing import routing_weights

CHANNELS = (3, 5)

total_loss = jax.jit(total.total_loss)


def random_batch(batch=2, height=12, width=15, grid=(4, 6)):
    generator = np.random.default_rng(0)

    def random(*shape):
        return jnp.asarray(generator.random(shape, np.float32))

    statistics = FeatureStatistics(
        target=tuple(random(batch, *grid, channels) for channels in CHANNELS),
        variance=random(batch, 2, *grid),
        mean_variance=0.2 + random(2),
    )
    return (
        random(batch, height, width, 3),
        random(batch, height, width, 3),
        0.01 * random(batch, height, width),
        tuple(random(batch, *grid, channels) for channels in CHANNELS),
        statistics,
    )


def test_the_loss_is_the_weighted_sum_of_its_terms():
    loss, terms = total_loss(
        *random_batch(), pixel_weight=2.0, alignment_weight=0.3, structure_weight=0.7
    )
    assert set(terms) == {"pixel", "alignment", "structure"}
    expected = 2 * terms["pixel"] + 0.3 * terms["alignment"] + 0.7 * terms["structure"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert loss.shape == (2,)


def test_the_default_weights_are_the_papers():
    loss, terms = total_loss(*random_batch())
    expected = terms["pixel"] + 0.5 * terms["alignment"] + 0.2 * terms["structure"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_no_panel_means_no_alignment_term():
    fused, mean, variance, _, _ = random_batch()
    loss, terms = total_loss(fused, mean, variance)
    assert set(terms) == {"pixel", "structure"}
    expected = terms["pixel"] + 0.2 * terms["structure"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_no_panel_leaves_no_trace_of_routing_in_the_program():
    fused, mean, variance, features, statistics = random_batch()
    assert " exp " in str(
        jax.make_jaxpr(total.total_loss)(fused, mean, variance, features, statistics)
    )
    # Routing's softmax is the only exponential of the objective.
    assert " exp " not in str(jax.make_jaxpr(total.total_loss)(fused, mean, variance))


def test_features_without_teacher_statistics_are_refused():
    fused, mean, variance, features, _ = random_batch()
    with pytest.raises(ValueError, match="no feature_statistics"):
        total_loss(fused, mean, variance, features)


@pytest.mark.parametrize("temperature", [0.3, math.inf])
def test_the_routing_temperature_reaches_equation_8(temperature):
    fused, mean, variance, features, statistics = random_batch()
    _, terms = total_loss(
        fused, mean, variance, features, statistics, routing_temperature=temperature
    )
    weights = routing_weights(
        statistics.variance, statistics.mean_variance, temperature=temperature
    )
    expected = alignment_loss(features, statistics.target, weights)
    np.testing.assert_allclose(terms["alignment"], expected, rtol=1e-5)


def test_no_gradient_reaches_a_teacher_value():
    gradients = jax.jit(
        jax.grad(lambda *batch: total_loss(*batch)[0].sum(), argnums=(0, 1, 2, 3, 4))
    )(*random_batch())
    student = jax.tree.leaves((gradients[0], gradients[3]))
    teacher = jax.tree.leaves((gradients[1], gradients[2], gradients[4]))
    assert all(np.any(leaf != 0) for leaf in student)
    assert not any(np.any(leaf != 0) for leaf in teacher)


def test_gradients_are_finite_when_everything_is_flat():
    _, _, _, features, statistics = random_batch()
    flat = jnp.full((2, 12, 15, 3), 0.5)
    features = jax.tree.map(jnp.zeros_like, features)
    statistics = jax.tree.map(jnp.zeros_like, statistics)
    gradients = jax.grad(
        lambda x, f: total_loss(x, flat, flat[..., 0] * 0, f, statistics)[0].sum(),
        argnums=(0, 1),
    )(flat, features)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


def test_jit_agrees_and_weights_may_be_swept_by_vmap():
    batch = random_batch()

    def mean_loss(pixel_weight, temperature):
        loss, _ = total_loss(
            *batch, pixel_weight=pixel_weight, routing_temperature=temperature
        )
        return loss.mean()

    weights, temperatures = jnp.array([0.5, 2.0]), jnp.array([0.1, 3.0])
    swept = jax.jit(jax.vmap(mean_loss))(weights, temperatures)
    expected = [mean_loss(0.5, 0.1), mean_loss(2.0, 3.0)]
    np.testing.assert_allclose(swept, expected, rtol=1e-5)


def test_a_bfloat16_student_gets_a_float32_loss():
    batch = jax.tree.map(lambda x: x.astype(jnp.bfloat16), random_batch())
    loss, terms = total_loss(*batch)
    assert {leaf.dtype for leaf in (loss, *terms.values())} == {jnp.dtype("float32")}
