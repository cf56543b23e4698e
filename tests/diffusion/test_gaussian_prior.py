import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.diffusion.gaussian_prior import (
    fit_gaussian_prior,
    load_gaussian_prior,
    make_denoiser,
    power_spectrum,
    save_gaussian_prior,
)
from fusionproxy_jax.errors import FusionProxyError


def _smooth_images(num, height, width, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    gain = 0.1 / (0.05 + np.hypot(rows, columns))
    for _ in range(num):
        noise = np.fft.fft2(rng.normal(size=(height, width)))
        yield 0.5 + 0.1 * np.fft.ifft2(gain * noise).real + rng.normal(scale=0.05)


def test_white_noise_of_unit_variance_has_power_one():
    rng = np.random.default_rng(0)
    # [0, 1] units: twice the deviation in [-1, 1].
    prior = fit_gaussian_prior(0.5 + 0.5 * rng.normal(size=(300, 32, 48)))
    # The sparsest rings hold 2 x 300 coefficients: a deviation of about 6 percent.
    np.testing.assert_allclose(power_spectrum(prior, 32, 48).ravel()[1:], 1.0, atol=0.2)


def test_the_zero_frequency_holds_the_variance_of_image_means():
    images = [np.full((8, 12), value) for value in (0.25, 0.75)]
    prior = fit_gaussian_prior(images)
    assert float(prior.mean) == 0.0
    # Means are -0.5 and 0.5 in [-1, 1]: variance 0.25, times the pixels of the grid.
    assert float(power_spectrum(prior, 16, 10)[0, 0]) == pytest.approx(0.25 * 160)


def test_the_denoiser_is_the_wiener_filter():
    prior = fit_gaussian_prior(_smooth_images(3, 24, 20))
    height, width, signal = 14, 9, 0.3
    noisy = np.random.default_rng(1).normal(size=(2, height, width)).astype(np.float32)
    half = np.asarray(power_spectrum(prior, height, width))
    power = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            # The mirrored half of the plane holds the same radii.
            power[y, x] = half[y, x] if x < half.shape[1] else half[-y, width - x]
    mean = float(prior.mean)
    spectrum = np.fft.fft2(noisy - np.sqrt(signal) * mean)
    gain = np.sqrt(signal) * power / (signal * power + 1 - signal)
    expected = mean + np.fft.ifft2(gain * spectrum).real
    denoise = make_denoiser(prior, height=height, width=width)
    result = denoise(jnp.asarray(noisy), jnp.int32(0), jnp.float32(signal))
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)


def test_denoising_brings_an_image_closer_at_any_size():
    prior = fit_gaussian_prior(_smooth_images(8, 64, 48))
    (clean,) = _smooth_images(1, 40, 56, seed=9)
    clean = jnp.asarray(2 * clean - 1, jnp.float32)[None]
    noise = jax.random.normal(jax.random.key(0), clean.shape)
    signal = 0.7
    noisy = jnp.sqrt(signal) * clean + jnp.sqrt(1 - signal) * noise
    denoise = make_denoiser(prior, height=40, width=56)
    result = denoise(noisy, jnp.int32(0), jnp.float32(signal))
    error = float(jnp.mean((result - clean) ** 2))
    assert error < 0.3 * float(jnp.mean((noisy / jnp.sqrt(signal) - clean) ** 2))


def test_a_prior_survives_its_file(tmp_path):
    prior = fit_gaussian_prior(_smooth_images(2, 16, 16))
    path = tmp_path / "prior.npz"
    save_gaussian_prior(path, prior)
    for saved, kept in zip(load_gaussian_prior(path), prior, strict=True):
        np.testing.assert_array_equal(saved, kept)


def test_a_broken_prior_file_is_named(tmp_path):
    path = tmp_path / "prior.npz"
    path.write_bytes(b"not a prior")
    with pytest.raises(FusionProxyError, match="prior.npz is no Gaussian prior"):
        load_gaussian_prior(path)


def test_no_images_give_no_prior():
    with pytest.raises(FusionProxyError, match="without images"):
        fit_gaussian_prior([])
