import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.losses.alignment import alignment_loss
from fusionproxy_jax.losses.routing import routing_weights
from fusionproxy_jax.losses.routing_schedules import annealed, constant, per_backbone
from fusionproxy_jax.losses.routing_variants import (
    learned_routing,
    mixture,
    per_pixel_learned_routing,
    single_routing,
    uniform_routing,
    variance_routing,
)

SHAPE = (2, 3, 5, 7)
KEY = jax.random.key(0)


def random_variance():
    generator = np.random.default_rng(0)
    variance = generator.random(SHAPE, np.float32)
    return jnp.asarray(variance), jnp.asarray(0.1 + 2 * generator.random(3, np.float32))


def redrawn(params):
    """Random numbers in place of first ones, which are zeros."""
    leaves, structure = jax.tree.flatten(params)
    generator = np.random.default_rng(5)
    return structure.unflatten(
        [jnp.asarray(generator.normal(size=leaf.shape), "f4") for leaf in leaves]
    )


ROUTINGS = {
    "variance": variance_routing(0.5),
    "annealed": variance_routing(annealed(2.0, 0.0, 10)),
    "per backbone": variance_routing(per_backbone([0.0, 1.0, math.inf])),
    "uniform": uniform_routing(),
    "single": single_routing(1, 3),
    "learned": learned_routing(),
    "per pixel": per_pixel_learned_routing(),
    "mixture": mixture(per_pixel_learned_routing(4), learned_routing(), 0.3),
}


@pytest.mark.parametrize("name", ROUTINGS)
def test_weights_of_every_routing_sum_to_one(name):
    routing = ROUTINGS[name]
    params = redrawn(routing.init(KEY, 3))
    weights = jax.jit(routing)(*random_variance(), 4, params)
    assert weights.shape == SHAPE and weights.dtype == jnp.float32
    assert np.all(weights >= 0)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("name", ROUTINGS)
def test_the_scale_of_a_backbone_does_not_matter_to_any_routing(name):
    variance, mean = random_variance()
    scale = jnp.array([1.0, 250.0, 9.0])
    params = redrawn(ROUTINGS[name].init(KEY, 3))
    routing = jax.jit(ROUTINGS[name])
    scaled = routing(variance * scale[None, :, None, None], mean * scale, 4, params)
    expected = routing(variance, mean, 4, params)
    np.testing.assert_allclose(scaled, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ROUTINGS)
def test_no_gradient_reaches_a_variance(name):
    params = redrawn(ROUTINGS[name].init(KEY, 3))
    gradients = jax.jit(
        jax.grad(
            lambda *variances: jnp.square(ROUTINGS[name](*variances, 4, params)).sum(),
            argnums=(0, 1),
        )
    )(*random_variance())
    assert not any(np.any(gradient) for gradient in gradients)


def test_variance_routing_is_equation_8_at_the_temperature_of_the_step():
    variance, mean = random_variance()
    routing = variance_routing(annealed(2.0, 0.0, 10, shape="linear"))
    for step, temperature in ((0, 2.0), (5, 1.0), (10, 0.0), (20, 0.0)):
        np.testing.assert_allclose(
            routing(variance, mean, step),
            routing_weights(variance, mean, temperature=temperature),
            rtol=1e-6,
        )


def test_a_sweep_over_temperatures_is_one_vmap():
    variance, mean = random_variance()
    temperatures = jnp.array([0.0, 0.1, 1.0, 10.0, math.inf])
    swept = jax.jit(
        jax.vmap(lambda t: variance_routing(constant(t))(variance, mean, 3, None))
    )(temperatures)
    looped = [variance_routing(float(t))(variance, mean) for t in temperatures]
    np.testing.assert_allclose(swept, jnp.stack(looped), rtol=1e-5, atol=1e-30)


def test_uniform_routing_is_the_limit_of_high_temperatures():
    variance, mean = random_variance()
    np.testing.assert_array_equal(
        uniform_routing()(variance, mean), variance_routing(math.inf)(variance, mean)
    )


def test_single_routing_leaves_one_backbone():
    weights = single_routing(2, 3)(*random_variance())
    np.testing.assert_array_equal(weights[:, 2], 1)
    np.testing.assert_array_equal(weights[:, :2], 0)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_backbone_outside_the_panel_is_refused(index):
    with pytest.raises(FusionProxyError, match=f"backbone {index} of a panel of 3"):
        single_routing(index, 3)


@pytest.mark.parametrize("name", ["learned", "per pixel"])
def test_learned_weights_start_uniform(name):
    weights = ROUTINGS[name](*random_variance(), 0, ROUTINGS[name].init(KEY, 3))
    np.testing.assert_allclose(weights, 1 / 3, rtol=1e-6)


def test_learned_weights_are_the_softmax_of_their_logits_everywhere():
    logits = jnp.array([0.5, -1.0, 2.0])
    weights = learned_routing()(*random_variance(), 0, {"logits": logits})
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(
        weights, np.broadcast_to(expected[:, None, None], SHAPE), rtol=1e-6
    )


def squared_distance_one_two_three():
    """Features whose backbones are 1, 2 and 3 away from their targets, squared."""
    features = tuple(jnp.zeros((2, 5, 7, channels)) for channels in (4, 2, 3))
    target = tuple(
        jnp.full(feature.shape, (k + 1.0) ** 0.5) for k, feature in enumerate(features)
    )
    return features, target


@pytest.mark.parametrize("name", ["learned", "per pixel"])
def test_gradient_descent_moves_learned_weight_to_the_easiest_backbone(name):
    features, target = squared_distance_one_two_three()
    routing, variances = ROUTINGS[name], random_variance()

    @jax.jit
    @jax.grad
    def gradient(params):
        return alignment_loss(features, target, routing(*variances, 0, params)).mean()

    params = routing.init(KEY, 3)
    for _ in range(20):
        params = jax.tree.map(lambda x, g: x - 0.5 * g, params, gradient(params))
    shares = routing(*variances, 0, params).mean(axis=(0, 2, 3))
    assert shares[0] > 0.6 and shares[0] > shares[1] > shares[2]


def test_the_gradient_of_a_logit_is_its_weight_times_what_it_costs_beyond_the_mean():
    features, target = squared_distance_one_two_three()
    logits = jnp.array([0.5, -1.0, 0.2])

    @jax.jit
    @jax.grad
    def gradient(logits):
        weights = learned_routing()(*random_variance(), 0, {"logits": logits})
        return alignment_loss(features, target, weights).mean()

    weights = np.exp(logits) / np.exp(logits).sum()
    costs = np.array([1.0, 2.0, 3.0])
    expected = weights * (costs - weights @ costs)
    np.testing.assert_allclose(gradient(logits), expected, rtol=1e-4)


def test_every_parameter_of_a_per_pixel_routing_gets_the_gradient_of_differences():
    routing, variances = per_pixel_learned_routing(4), random_variance()
    params = redrawn(routing.init(KEY, 3))
    ramp = jnp.sin(jnp.arange(math.prod(SHAPE), dtype="f4")).reshape(SHAPE)

    @jax.jit
    def objective(params):
        return jnp.sum(ramp * routing(*variances, 0, params))

    def along(step):
        return objective(jax.tree.map(lambda x, g: x + step * g, params, gradient))

    gradient = jax.jit(jax.grad(objective))(params)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    low, high = along(-1e-3), along(1e-3)
    squared = sum(np.square(leaf).sum() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose((high - low) / 2e-3, squared, rtol=1e-2)


def test_a_per_pixel_routing_sees_each_pixel_alone():
    variance, mean = random_variance()
    routing = ROUTINGS["per pixel"]
    params = redrawn(routing.init(KEY, 3))
    shuffle = np.random.default_rng(2).permutation(5)
    np.testing.assert_allclose(
        routing(variance[:, :, shuffle], mean, 0, params),
        routing(variance, mean, 0, params)[:, :, shuffle],
        rtol=1e-6,
    )


def test_a_mixture_is_the_weighted_mean_of_its_parts():
    variances = random_variance()
    mixed = mixture(uniform_routing(), single_routing(0, 3), 0.25)(*variances)
    np.testing.assert_allclose(mixed[:, 0], 0.75 / 3 + 0.25, rtol=1e-6)
    np.testing.assert_allclose(mixed[:, 1:], 0.75 / 3, rtol=1e-6)


def test_the_share_of_a_mixture_may_follow_the_step():
    variances = random_variance()
    routing = mixture(
        uniform_routing(), variance_routing(0.1), annealed(0.0, 1.0, 10, shape="linear")
    )
    uniform, variance = uniform_routing()(*variances), variance_routing(0.1)(*variances)
    np.testing.assert_allclose(routing(*variances, 0), uniform, rtol=1e-6)
    np.testing.assert_allclose(
        routing(*variances, 5), 0.5 * (uniform + variance), rtol=1e-6
    )
    np.testing.assert_allclose(routing(*variances, 10), variance, rtol=1e-6)


def test_a_share_outside_zero_to_one_is_refused():
    with pytest.raises(FusionProxyError, match=r"is 1.5; it must be in \[0, 1\]"):
        mixture(uniform_routing(), uniform_routing(), 1.5)
