import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.teachers import pyramid


def test_merging_the_bands_gives_the_image_back():
    images = jax.random.normal(jax.random.key(0), (2, 32, 48))
    bands = pyramid.split(images, 4)
    assert [band.shape[1:] for band in bands] == [
        (32, 48),
        (16, 24),
        (8, 12),
        (4, 6),
        (2, 3),
    ]
    np.testing.assert_allclose(pyramid.merge(bands), images, atol=1e-5)


def test_a_flat_image_has_empty_detail_bands():
    *details, base = pyramid.split(jnp.full((1, 16, 32), 0.3), 3)
    assert max(float(jnp.abs(band).max()) for band in details) < 1e-6
    np.testing.assert_allclose(base, 0.3, rtol=1e-6)


def test_halving_is_the_binomial_filter_on_every_second_pixel():
    image = np.random.default_rng(0).normal(size=(10, 12))
    taps = np.array([1, 4, 6, 4, 1]) / 16
    padded = np.pad(image, 2, mode="edge")
    expected = np.zeros((5, 6))
    for y in range(5):
        for x in range(6):
            window = padded[2 * y : 2 * y + 5, 2 * x : 2 * x + 5]
            expected[y, x] = taps @ window @ taps
    result = pyramid.halve(jnp.asarray(image, jnp.float32)[None])[0]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_doubling_a_ramp_keeps_its_slope_inside():
    ramp = jnp.broadcast_to(jnp.arange(8.0), (1, 6, 8))
    inside = np.asarray(pyramid.double(ramp))[0, 4:-4, 4:-4]
    np.testing.assert_allclose(np.diff(inside, axis=1), 0.5, atol=1e-5)
