import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from fusionproxy_jax.losses.routing import routing_weights


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
