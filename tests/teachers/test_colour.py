import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.teachers.colour import from_studio, luma, recolour, to_studio


def test_recolouring_gives_exactly_the_luminance_asked_for():
    visible = jax.random.uniform(jax.random.key(0), (6, 7, 3))
    luminance = jax.random.uniform(jax.random.key(1), (4, 6, 7))
    rgb = recolour(luminance, visible)
    assert rgb.shape == (4, 6, 7, 3)
    assert float(rgb.min()) >= 0 and float(rgb.max()) <= 1
    np.testing.assert_allclose(luma(rgb), luminance, atol=1e-5)


def test_the_visible_luminance_gives_the_visible_image():
    visible = jax.random.uniform(jax.random.key(2), (5, 4, 3))
    np.testing.assert_allclose(recolour(luma(visible), visible), visible, atol=1e-5)


def test_chroma_is_kept_where_it_fits_and_only_scaled_where_not():
    visible = jnp.asarray([[[0.6, 0.4, 0.3]]])
    chroma = visible - luma(visible)[..., None]
    for luminance in (0.5, 0.97, 0.01):
        rgb = recolour(jnp.full((1, 1), luminance), visible)
        kept = np.asarray((rgb - luminance) / chroma).ravel()
        np.testing.assert_allclose(kept, kept[0], rtol=1e-3)
        assert kept[0] == pytest.approx(1.0, abs=1e-4) if luminance == 0.5 else True
        assert 0 < kept[0] <= 1 + 1e-4


def test_black_and_white_have_no_colour():
    visible = jnp.asarray([[[0.9, 0.1, 0.1]]])
    for luminance in (0.0, 1.0):
        rgb = recolour(jnp.full((1, 1), luminance), visible)
        np.testing.assert_allclose(rgb, luminance, atol=1e-6)


def test_the_studio_range_is_the_released_matrix():
    # 16 / 255 and 235 / 255 for 0 and 1, see BT.601.
    np.testing.assert_allclose(
        to_studio(jnp.array([0.0, 1.0])), [0.0627, 0.9216], atol=1e-4
    )
    values = jnp.linspace(-1, 1, 9)
    np.testing.assert_allclose(from_studio(to_studio(values)), values, atol=1e-6)
