import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from fusionproxy_jax.teachers.mask_difuser import degradations
from fusionproxy_jax.teachers.mask_difuser.degradations import DEGRADATIONS, degrade

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def image():
    """Smooth scene [40, 56, 3] in [-1, 1] with an edge."""
    rows, columns = np.mgrid[:40, :56] / 20
    scene = 0.5 * np.sin(2 * rows + columns) + np.where(columns > 1.5, 0.4, -0.4)
    return jnp.asarray(np.stack([scene, 0.8 * scene, 0.6 * scene], -1), jnp.float32)


@pytest.mark.parametrize("degradation", DEGRADATIONS, ids=lambda d: d.__name__)
def test_every_degradation_changes_an_image_and_keeps_its_range(degradation, image):
    worse = degradation(image, KEY)
    assert worse.shape == image.shape and worse.dtype == image.dtype
    assert float(jnp.abs(worse).max()) <= 1 + 1e-6
    assert 0.001 < float(jnp.mean(jnp.abs(worse - image))) < 0.6
    assert bool(jnp.any(degradation(image, jax.random.key(4)) != worse))


def test_blur_is_gaussian(image):
    sigma = next(
        s
        for s in (0.8, 1.1, 1.4)
        if np.allclose(
            degradations.blur(image, KEY),
            scipy.ndimage.gaussian_filter(
                np.asarray(image), (s, s, 0), mode="nearest", radius=3
            ),
            atol=1e-5,
        )
    )
    assert sigma in (0.8, 1.1, 1.4)


def test_noise_has_a_strength_between_five_and_thirty_five_levels():
    grey = jnp.zeros((64, 64, 3))
    strengths = [
        float(jnp.std(degradations.noise(grey, jax.random.key(n)))) * 255 / 2
        for n in range(12)
    ]
    assert 4.5 < min(strengths) and max(strengths) < 36
    assert max(strengths) - min(strengths) > 8


def test_phases_keep_the_mean_of_an_image(image):
    small = 0.3 * image
    worse = degradations.phases(small, KEY)
    np.testing.assert_allclose(
        jnp.mean(worse, axis=(0, 1)), jnp.mean(small, axis=(0, 1)), atol=1e-5
    )


def test_tone_keeps_the_order_of_grey_levels():
    ramp = jnp.linspace(-1, 1, 40)[None, :, None] * jnp.ones((4, 1, 3))
    changed = degradations.tone(ramp, KEY)
    assert bool(jnp.all(jnp.diff(changed, axis=1) >= 0))
    assert float(changed[0, -1, 0]) == pytest.approx(1.0, abs=1e-5)


def test_banding_shifts_whole_rows_or_columns():
    grey = jnp.zeros((24, 30, 3))
    by_rows = 0
    for n in range(8):
        band = np.asarray(degradations.banding(grey, jax.random.key(n)))
        assert np.ptp(band, axis=1).max() == 0 or np.ptp(band, axis=0).max() == 0
        by_rows += np.ptp(band, axis=1).max() == 0
    assert 0 < by_rows < 8


def test_each_degradation_gets_its_turn(image):
    found = set()
    for n in range(40):
        key = jax.random.key(n)
        _, own_key = jax.random.split(key)
        worse = degrade(image, key)
        found |= {
            d.__name__
            for d in DEGRADATIONS
            if np.allclose(d(image, own_key), worse, atol=1e-5)
        }
    assert found == {d.__name__ for d in DEGRADATIONS}
