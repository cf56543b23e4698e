import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from fusionproxy_jax.losses import routing

routing_weights = jax.jit(routing.routing_weights)
routing_entropy = jax.jit(routing.routing_entropy)
normalised_routing_entropy = jax.jit(routing.normalised_routing_entropy)


def random_variance(seed=0, shape=(2, 3, 5, 7)):
    generator = np.random.default_rng(seed)
    variance = generator.random(shape, np.float32)
    mean = 0.1 + 2 * generator.random(shape[1], np.float32)
    return jnp.asarray(variance), jnp.asarray(mean)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_the_weights_are_equation_8(temperature):
    variance, mean = random_variance()
    weights = routing_weights(variance, mean, temperature=temperature)
    expected = [
        oracles.routing_weights(np.asarray(image), np.asarray(mean), temperature, 1e-6)
        for image in variance
    ]
    np.testing.assert_allclose(weights, expected, rtol=2e-5)


def test_weights_sum_to_one_at_every_pixel():
    weights = routing_weights(*random_variance())
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)


def test_a_high_temperature_routes_uniformly():
    weights = routing_weights(*random_variance(), temperature=1e6)
    np.testing.assert_allclose(weights, 1 / 3, atol=1e-5)


def test_infinite_temperature_is_exactly_uniform():
    weights = routing_weights(*random_variance(), temperature=math.inf)
    np.testing.assert_array_equal(weights, jnp.full((2, 3, 5, 7), 1 / 3))


def test_a_low_temperature_chooses_one_backbone_without_overflow():
    variance, mean = random_variance()
    # Raw exponents reach 1e7, far beyond the range of exp in float32.
    weights = routing_weights(1e4 * variance, mean, temperature=1e-3)
    winner = jnp.argmax(variance / mean[None, :, None, None], axis=1)
    expected = jnp.moveaxis(jax.nn.one_hot(winner, 3), -1, 1)
    np.testing.assert_array_equal(weights, expected)


def test_the_scale_of_a_backbone_does_not_matter():
    variance, mean = random_variance()
    scale = jnp.array([1.0, 250.0, 9.0])
    scaled = routing_weights(variance * scale[None, :, None, None], mean * scale)
    np.testing.assert_allclose(scaled, routing_weights(variance, mean), rtol=1e-4)


def test_equal_informativeness_weights_backbones_equally():
    weights = routing_weights(jnp.ones((1, 4, 2, 2)), jnp.ones(4))
    np.testing.assert_array_equal(weights, jnp.full((1, 4, 2, 2), 0.25))


def test_a_backbone_that_never_varies_stays_finite():
    variance = jnp.zeros((1, 2, 3, 3)).at[:, 1].set(0.5)
    weights = routing_weights(variance, jnp.array([0.0, 0.5]))
    assert np.all(np.isfinite(weights))


def test_the_temperature_may_be_traced_and_swept_by_vmap():
    variance, mean = random_variance()
    temperatures = jnp.array([0.1, 1.0, 10.0])
    swept = jax.jit(
        jax.vmap(lambda value: routing_weights(variance, mean, temperature=value))
    )(temperatures)
    for weights, temperature in zip(swept, temperatures, strict=True):
        np.testing.assert_allclose(
            weights,
            routing_weights(variance, mean, temperature=float(temperature)),
            rtol=1e-5,
        )


def test_bfloat16_is_computed_in_float32():
    variance, mean = random_variance()
    rounded = variance.astype(jnp.bfloat16)
    np.testing.assert_array_equal(
        routing_weights(rounded, mean),
        routing_weights(rounded.astype(jnp.float32), mean),
    )


def ramp(variance, mean, temperature):
    """A number that every weight moves another way."""
    weights = routing_weights(variance, mean, temperature=temperature)
    return jnp.sum(jnp.sin(jnp.arange(weights.size, dtype="f4")) * weights.ravel())


gradients_of_a_ramp = jax.jit(jax.grad(ramp, argnums=(0, 1, 2)))


def test_temperature_zero_is_exactly_the_most_informative_backbone():
    variance, mean = random_variance()
    winner = np.argmax(variance / mean[None, :, None, None], axis=1)
    expected = np.moveaxis(np.eye(3)[winner], -1, 1)
    for temperature in (0.0, jnp.zeros(3), jnp.zeros((2, 1, 5, 7))):
        weights = routing_weights(variance, mean, temperature=temperature)
        np.testing.assert_array_equal(weights, expected)


def test_temperature_zero_is_the_limit_of_low_temperatures():
    variance, mean = random_variance()
    limit = routing_weights(variance, mean, temperature=0.0)
    for temperature in (1e-5, 1e-20, 1e-38):
        weights = routing_weights(variance, mean, temperature=temperature)
        np.testing.assert_allclose(weights, limit, atol=1e-6)


def test_backbones_that_tie_share_a_pixel_at_temperature_zero():
    variance = jnp.array([2.0, 1.0, 2.0]).reshape(1, 3, 1, 1)
    weights = routing_weights(variance, jnp.ones(3), temperature=0.0)
    np.testing.assert_array_equal(weights.ravel(), [0.5, 0.0, 0.5])
    weights = routing_weights(0 * variance, jnp.ones(3), temperature=0.0)
    np.testing.assert_array_equal(weights.ravel(), jnp.full(3, 1 / 3))


@pytest.mark.parametrize("temperature", [0.0, 1e-20, 1e-11, 1e-3, 1.0, math.inf])
def test_gradients_are_finite_at_every_temperature(temperature):
    variance, mean = random_variance()
    # A tie, a pixel without any variance, and a backbone that never varies.
    variance = variance.at[:, :, 0, 0].set(0.5).at[:, :, 1, 1].set(0.0)
    variance, mean = variance.at[:, 2].set(0.0), mean.at[2].set(0.0)

    gradients = gradients_of_a_ramp(variance, mean, jnp.float32(temperature))
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 5, 7), (2, 1, 5, 7)])
def test_the_temperature_may_differ_between_backbones_and_pixels(shape):
    variance, mean = random_variance()
    temperature = jnp.asarray(np.random.default_rng(1).uniform(0.2, 3, shape), "f4")
    own = temperature[None, :, None, None] if len(shape) == 1 else temperature
    weights = routing_weights(variance, mean, temperature=temperature)
    powers = np.exp(variance / (mean[None, :, None, None] + 1e-6) / own)
    np.testing.assert_allclose(weights, powers / powers.sum(1, keepdims=True), 2e-5)


def test_a_backbone_at_zero_beats_the_others_where_it_varies():
    variance, mean = random_variance()
    variance = variance.at[:, 1, 2, 3].set(0.0)
    weights = routing_weights(
        variance, mean, temperature=jnp.array([1.0, 0.0, math.inf])
    )
    elsewhere = np.ones((5, 7), bool)
    elsewhere[2, 3] = False
    np.testing.assert_array_equal(weights[:, 1, elsewhere], 1)
    # The limit of a small temperature: exponents v / tau, and 0 / tau is 0.
    limit = routing_weights(
        variance, mean, temperature=jnp.array([1.0, 1e-4, math.inf])
    )
    np.testing.assert_allclose(weights[:, :, 2, 3], limit[:, :, 2, 3], rtol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    inputs = (*random_variance(), jnp.float32(0.7))
    direction = np.cos(9 * inputs[0]), np.float32([0.3, -0.2, 0.5]), np.float32(1)

    @jax.jit
    def along(step):
        return ramp(*(x + step * d for x, d in zip(inputs, direction, strict=True)))

    slope = sum(map(np.vdot, gradients_of_a_ramp(*inputs), direction))
    difference = (along(jnp.float32(3e-3)) - along(jnp.float32(-3e-3))) / 6e-3
    np.testing.assert_allclose(difference, slope, rtol=1e-2)


def test_entropy_is_minus_the_sum_of_w_log_w():
    weights = routing_weights(*random_variance())
    expected = np.zeros((2, 5, 7))
    for place in np.ndindex(2, 5, 7):
        b, y, x = place
        for k in range(3):
            weight = float(weights[b, k, y, x])
            expected[place] -= weight * math.log(weight)
    np.testing.assert_allclose(routing_entropy(weights), expected, rtol=1e-5)
    np.testing.assert_allclose(
        normalised_routing_entropy(weights), expected / math.log(3), rtol=1e-5
    )


def test_entropy_is_zero_for_one_backbone_and_largest_for_uniform_weights():
    variance, mean = random_variance()
    one_hot = routing_weights(variance, mean, temperature=0.0)
    np.testing.assert_array_equal(routing_entropy(one_hot), jnp.zeros((2, 5, 7)))
    uniform = routing_weights(variance, mean, temperature=math.inf)
    np.testing.assert_allclose(normalised_routing_entropy(uniform), 1, rtol=1e-6)
    alone = normalised_routing_entropy(jnp.ones((2, 1, 5, 7)))
    np.testing.assert_array_equal(alone, jnp.zeros((2, 5, 7)))


def test_entropy_rises_with_the_temperature():
    variance, mean = random_variance()
    means = [
        float(routing_entropy(routing_weights(variance, mean, temperature=t)).mean())
        for t in (0.0, 0.1, 1.0, 10.0, math.inf)
    ]
    assert means == sorted(means) and means[0] < means[1] < means[-1]


def test_the_gradient_of_entropy_is_finite_at_one_hot_weights():
    one_hot = routing_weights(*random_variance(), temperature=0.0)
    gradient = jax.grad(lambda weights: routing_entropy(weights).sum())(one_hot)
    assert np.all(np.isfinite(gradient))
