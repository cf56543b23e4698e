import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import rgb2ycbcr

from fusionproxy_jax.models.output import NUM_MAPS, compose


def _images():
    generator = np.random.default_rng(0)
    shapes = {"visible": (2, 5, 7, 3), "infrared": (2, 5, 7, 1)}
    return {
        name: jnp.asarray(generator.random(shape, np.float32))
        for name, shape in shapes.items()
    }


def _maps(output):
    generator = np.random.default_rng(1)
    shape = (2, 5, 7, NUM_MAPS[output])
    return jnp.asarray(generator.standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("output", NUM_MAPS)
def test_maps_of_zeros_give_the_visible_image(output):
    images, maps = _images(), jnp.zeros((2, 5, 7, NUM_MAPS[output]))
    np.testing.assert_array_equal(compose(output, maps, **images), images["visible"])


@pytest.mark.parametrize("output", ["luma", "blend"])
def test_luminance_changes_and_chroma_does_not(output):
    """Against another implementation of Y, Cb and Cr."""
    images = _images()
    fused = compose(output, _maps(output), **images)
    before, after = (rgb2ycbcr(np.float64(x)) for x in (images["visible"], fused))
    np.testing.assert_allclose(after[..., 1:], before[..., 1:], atol=1e-3)
    assert np.abs(after - before)[..., 0].mean() > 10


def test_a_weight_of_one_gives_the_infrared_images_luminance():
    images = _images()
    maps = jnp.concatenate([jnp.ones((2, 5, 7, 1)), jnp.zeros((2, 5, 7, 1))], -1)
    fused = compose("blend", maps, **images)
    luminance = np.asarray(fused) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(luminance, images["infrared"][..., 0], atol=1e-6)


def test_a_colour_residual_is_added_as_it_is():
    images, maps = _images(), _maps("rgb")
    np.testing.assert_allclose(
        compose("rgb", maps, **images), images["visible"] + maps, rtol=1e-6
    )


def test_an_untrained_blend_can_learn_its_weight():
    """Its derivative is not zero where the decoder starts, at zeros."""
    images = _images()
    gradient = jax.grad(
        lambda maps: jnp.sum(jnp.square(compose("blend", maps, **images)))
    )(jnp.zeros((2, 5, 7, 2)))
    assert np.all(np.mean(np.abs(gradient), axis=(0, 1, 2)) > 0.01)
