import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.diffusion.objective import (
    NUM_LEVELS,
    add_noise,
    mean_squared_error,
)
from fusionproxy_jax.diffusion.schedule import linear_signal

KEYS = jax.random.split(jax.random.key(0), 500)


def test_states_mix_image_and_noise_by_the_schedule():
    clean = jnp.full((500, 4, 5, 1), 0.7)
    states = add_noise(clean, KEYS)
    signal = linear_signal(NUM_LEVELS)[np.asarray(states.index)]
    np.testing.assert_allclose(states.signal, signal, rtol=1e-5)
    mixed = np.sqrt(signal)[:, None, None, None] * 0.7 + np.sqrt(1 - signal)[
        :, None, None, None
    ] * np.asarray(states.noise)
    np.testing.assert_allclose(states.noisy, mixed, atol=1e-5)
    assert abs(float(states.noise.mean())) < 0.05
    assert abs(float(states.noise.std()) - 1) < 0.05


def test_levels_are_uniform_over_the_schedule():
    index = np.asarray(add_noise(jnp.zeros((500, 2, 2, 1)), KEYS).index)
    assert index.min() < 20 and index.max() > NUM_LEVELS - 20
    assert abs(index.mean() - NUM_LEVELS / 2) < 50


def test_an_image_s_state_depends_on_its_own_key():
    clean = jnp.zeros((3, 4, 4, 1))
    one = add_noise(clean, KEYS[:3])
    other = add_noise(clean[:2], KEYS[1:3])
    np.testing.assert_array_equal(one.noisy[1:], other.noisy)


def test_the_error_is_a_mean_per_image():
    error = mean_squared_error(
        jnp.array([[[[1.0]], [[3.0]]]]), jnp.array([[[[0.0]], [[1.0]]]])
    )
    np.testing.assert_allclose(error, [2.5])
