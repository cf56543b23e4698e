import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.diffusion.ddim import no_rectification, sample
from fusionproxy_jax.diffusion.schedule import noise_levels

SHAPE = (6, 10)


def _keys(num):
    return jax.vmap(lambda n: jax.random.fold_in(jax.random.key(3), n))(jnp.arange(num))


def _shrink(noisy, index, signal):
    """Exact denoiser of white noise images of variance 1/4."""
    gain = 0.25 * jnp.sqrt(signal) / (0.25 * signal + 1 - signal)
    return gain * noisy


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_the_chain_matches_a_plain_loop(eta):
    levels = noise_levels(5)
    (key,) = _keys(1)
    first_key, chain_key = jax.random.split(key)
    noisy = np.asarray(jax.random.normal(first_key, SHAPE), np.float64)
    for a, b in zip(levels.signal, levels.next_signal, strict=True):
        a, b = float(a), float(b)
        estimate = np.clip(0.25 * np.sqrt(a) / (0.25 * a + 1 - a) * noisy, -1, 1) + 0.1
        noise = (noisy / np.sqrt(a) - estimate) / np.sqrt(1 / a - 1)
        chain_key, _, noise_key = jax.random.split(chain_key, 3)
        fresh = np.asarray(jax.random.normal(noise_key, SHAPE), np.float64)
        deviation = eta * np.sqrt((1 - b) / (1 - a) * (1 - a / b))
        kept = np.sqrt(1 - b - deviation**2)
        noisy = np.sqrt(b) * estimate + kept * noise + deviation * fresh
    result = sample(
        _shrink,
        lambda x, state, keys: (x + 0.1, state),
        (),
        _keys(1),
        levels,
        shape=SHAPE,
        eta=eta,
    )
    np.testing.assert_allclose(result[0], noisy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_noise_of_the_unclipped_estimate_can_be_kept(eta):
    # An estimate that is clipped nearly everywhere, so that the two noises differ.
    levels = noise_levels(4)
    (key,) = _keys(1)
    first_key, chain_key = jax.random.split(key)
    noisy = np.asarray(jax.random.normal(first_key, SHAPE), np.float64)
    for a, b in zip(levels.signal, levels.next_signal, strict=True):
        a, b = float(a), float(b)
        predicted = np.tanh(noisy) + 0.3
        clean = (noisy - np.sqrt(1 - a) * predicted) / np.sqrt(a)
        chain_key, _, noise_key = jax.random.split(chain_key, 3)
        fresh = np.asarray(jax.random.normal(noise_key, SHAPE), np.float64)
        deviation = eta * np.sqrt((1 - b) / (1 - a) * (1 - a / b))
        kept = np.sqrt(1 - b - deviation**2)
        noisy = np.sqrt(b) * np.clip(clean, -1, 1) + kept * predicted
        noisy = noisy + deviation * fresh

    def denoise(noisy, index, signal):
        predicted = jnp.tanh(noisy) + 0.3
        return (noisy - jnp.sqrt(1 - signal) * predicted) / jnp.sqrt(signal)

    def run(**options):
        return sample(
            denoise,
            no_rectification,
            (),
            _keys(1),
            levels,
            shape=SHAPE,
            eta=eta,
            **options,
        )[0]

    result = run(rederive_noise=False)
    np.testing.assert_allclose(result, noisy, rtol=1e-4, atol=1e-4)
    assert np.abs(result - run()).max() > 0.1


def test_the_last_estimate_is_the_result_even_outside_the_range():
    def rectify(estimate, count, keys):
        return jnp.full_like(estimate, 1.5) + count[:, None, None], count + 1

    result = sample(
        _shrink, rectify, jnp.zeros(2), _keys(2), noise_levels(4), shape=SHAPE
    )
    np.testing.assert_allclose(result, 1.5 + 3, rtol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sample_does_not_depend_on_its_batch(eta):
    def rectify(estimate, state, keys):
        mean = jnp.mean(estimate, axis=(1, 2))
        return estimate + state[:, None, None], 0.5 * state + mean

    def run(num):
        return sample(
            _shrink,
            rectify,
            jnp.zeros(num),
            _keys(num),
            noise_levels(6),
            shape=SHAPE,
            eta=eta,
        )

    np.testing.assert_allclose(run(3)[:2], run(2), rtol=1e-5, atol=1e-6)
    assert np.abs(run(2)[0] - run(2)[1]).max() > 1e-2


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_exact_denoiser_gives_samples_of_its_own_distribution(eta):
    # The images have deviation 1/2; clipping at two of them takes a few percent away.
    result = sample(
        _shrink,
        no_rectification,
        (),
        _keys(4),
        noise_levels(200),
        shape=(64, 64),
        eta=eta,
    )
    assert 0.4 < float(result.std()) < 0.52
    assert abs(float(result.mean())) < 0.02
