import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.diffusion.parameterization import (
    min_snr_weight,
    to_clean,
    to_target,
)

PREDICTIONS = ("noise", "clean", "velocity")
SHAPE = (3, 4, 5, 2)


def _images():
    clean, noise = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    return clean, noise


def _mixed(clean, noise, signal):
    signal = jnp.broadcast_to(signal, (3,)).reshape(3, 1, 1, 1)
    return jnp.sqrt(signal) * clean + jnp.sqrt(1 - signal) * noise


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("signal", [0.2, [0.05, 0.5, 0.99]], ids=["one", "per sample"])
def test_the_target_stands_for_the_clean_image(prediction, signal):
    clean, noise = _images()
    signal = jnp.asarray(signal)
    noisy = _mixed(clean, noise, signal)
    target = to_target(clean, noise, signal, prediction)
    result = to_clean(target, noisy, signal, prediction)
    np.testing.assert_allclose(result, clean, rtol=1e-4, atol=1e-5)


def test_a_signal_that_broadcasts_is_one_per_sample():
    clean, noise = _images()
    signal = jnp.array([0.05, 0.5, 0.99])
    np.testing.assert_array_equal(
        to_target(clean, noise, signal[:, None, None, None], "velocity"),
        to_target(clean, noise, signal, "velocity"),
    )


def test_hand_values_of_targets_and_clean_estimates():
    # sqrt(a) = 0.6, sqrt(1 - a) = 0.8.
    signal = jnp.float32(0.36)
    clean, noise, noisy, output = (jnp.full((1, 1), v) for v in (0.5, 2.0, 1.9, 0.25))
    assert float(to_target(clean, noise, signal, "noise")[0, 0]) == 2.0
    assert float(to_target(clean, noise, signal, "clean")[0, 0]) == 0.5
    velocity = float(to_target(clean, noise, signal, "velocity")[0, 0])
    assert velocity == pytest.approx(0.6 * 2.0 - 0.8 * 0.5)
    estimates = [float(to_clean(output, noisy, signal, p)[0, 0]) for p in PREDICTIONS]
    expected = [(1.9 - 0.8 * 0.25) / 0.6, 0.25, 0.6 * 1.9 - 0.8 * 0.25]
    assert estimates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        # snr 1/3 and 9; the second is above gamma = 5.
        ("clean", [1 / 3, 5.0]),
        ("noise", [1.0, 5 / 9]),
        ("velocity", [1 / 4, 1 / 2]),
    ],
)
def test_min_snr_weights_have_their_hand_values(prediction, expected):
    result = min_snr_weight(jnp.array([0.25, 0.9]), prediction)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_weighted_error_is_the_same_in_every_prediction(prediction):
    clean, noise = _images()
    error = 0.1 * jax.random.normal(jax.random.key(1), SHAPE)
    for signal in map(jnp.float32, (0.01, 0.4, 0.97)):
        noisy = _mixed(clean, noise, signal)
        # The state is known, so an error of the clean image implies one of the noise.
        implied = (noisy - jnp.sqrt(signal) * (clean + error)) / jnp.sqrt(1 - signal)
        wrong = to_target(clean + error, implied, signal, prediction)
        right = to_target(clean, noise, signal, prediction)
        loss = min_snr_weight(signal, prediction) * jnp.mean((wrong - right) ** 2)
        snr = float(signal / (1 - signal))
        expected = min(snr, 5.0) * float(jnp.mean(error**2))
        assert float(loss) == pytest.approx(expected, rel=1e-3)
