import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.losses.pixel import pixel_weights
from fusionproxy_jax.teachers.ensemble import (
    decompose_variance,
    ensemble_mean,
    ensemble_statistics,
    ensemble_variance,
)


def _samples(*shape):
    return jax.random.uniform(jax.random.key(0), shape)


def test_mean_and_variance_match_plain_loops():
    samples = np.asarray(_samples(5, 3, 4, 3), np.float64)
    mean, variance = np.zeros((3, 4, 3)), np.zeros((3, 4))
    for y in range(3):
        for x in range(4):
            for c in range(3):
                values = [samples[n, y, x, c] for n in range(5)]
                mean[y, x, c] = sum(values) / 5
                squares = sum((v - mean[y, x, c]) ** 2 for v in values)
                variance[y, x] += squares / 5 / 3
    np.testing.assert_allclose(ensemble_mean(jnp.asarray(samples)), mean, rtol=1e-5)
    np.testing.assert_allclose(
        ensemble_variance(jnp.asarray(samples)), variance, rtol=1e-4
    )


def test_one_sample_has_no_variance_and_uniform_pixel_weights():
    variance = ensemble_variance(_samples(1, 4, 6, 3))
    np.testing.assert_array_equal(variance, 0.0)
    weights = pixel_weights(variance[None])
    np.testing.assert_allclose(weights, 1 / 24, rtol=1e-5)


def test_pixel_weights_of_an_ensemble_sum_to_one():
    weights = pixel_weights(ensemble_variance(_samples(4, 5, 7, 3))[None])
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("num_teachers", [1, 2, 3])
def test_total_variance_is_the_mean_within_plus_between(num_teachers):
    parts = decompose_variance(_samples(num_teachers, 4, 5, 6, 3) ** 2)
    assert parts.within.shape == (num_teachers, 5, 6)
    np.testing.assert_allclose(
        parts.total, parts.within.mean(0) + parts.between, rtol=1e-4
    )


def test_two_teachers_follow_the_written_decomposition():
    first, second = _samples(2, 4, 5, 6, 3)
    parts = decompose_variance(jnp.stack([first, second]))
    np.testing.assert_allclose(parts.within[0], ensemble_variance(first), rtol=1e-4)
    np.testing.assert_allclose(parts.within[1], ensemble_variance(second), rtol=1e-4)
    gap = ensemble_mean(first) - ensemble_mean(second)
    np.testing.assert_allclose(
        parts.between, jnp.mean(gap**2, axis=-1) / 4, rtol=1e-3, atol=1e-6
    )


def test_order_of_samples_does_not_matter():
    samples = _samples(4, 3, 3, 3)
    np.testing.assert_allclose(
        ensemble_variance(samples), ensemble_variance(samples[::-1]), rtol=1e-4
    )


def test_what_is_kept_of_a_tile_are_eqs_4_and_5_and_the_teachers_means():
    samples = _samples(2, 4, 5, 6, 3)
    found = ensemble_statistics(samples)
    flat = samples.reshape(8, 5, 6, 3)
    np.testing.assert_allclose(found.mean, flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.teacher_means, samples.mean(1), rtol=1e-5)
    np.testing.assert_allclose(
        found.variance.total, flat.var(0).mean(-1), rtol=1e-4, atol=1e-6
    )
