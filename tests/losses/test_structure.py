import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from skimage.metrics import structural_similarity

from fusionproxy_jax.losses import structure

structure_loss = jax.jit(structure.structure_loss)
gradient_of_loss = jax.jit(jax.grad(lambda x, y: structure_loss(x, y).sum()))


def random_images(shape=(2, 14, 17, 2)):
    generator = np.random.default_rng(0)
    fused = generator.random(shape, np.float32)
    mean = fused + 0.2 * generator.normal(size=shape).astype(np.float32)
    return jnp.asarray(fused), jnp.asarray(mean.clip(0, 1))


def test_the_loss_is_one_minus_ssim():
    fused, mean = random_images()
    expected = [
        oracles.structure_loss(np.asarray(ours), np.asarray(theirs))
        for ours, theirs in zip(fused, mean, strict=True)
    ]
    np.testing.assert_allclose(structure_loss(fused, mean), expected, rtol=1e-4)


def test_the_loss_agrees_with_scikit_image():
    fused, mean = random_images((1, 40, 33, 3))
    similarity = structural_similarity(
        np.asarray(fused[0], np.float64),
        np.asarray(mean[0], np.float64),
        gaussian_weights=True,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )
    np.testing.assert_allclose(
        structure_loss(fused, mean)[0], 1 - similarity, rtol=1e-3
    )


def test_equal_images_cost_nothing():
    fused, _ = random_images()
    np.testing.assert_allclose(structure_loss(fused, fused), 0, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_gradients_are_finite_on_flat_images(level):
    flat = jnp.full((1, 16, 12, 3), level)
    _, noisy = random_images((1, 16, 12, 3))
    for target in (flat, noisy):
        gradient = gradient_of_loss(flat, target)
        assert np.all(np.isfinite(gradient))


def test_every_pixel_is_supervised():
    fused, mean = random_images()
    gradient = gradient_of_loss(fused, mean)
    assert np.all(np.any(gradient != 0, axis=-1))


def test_an_image_smaller_than_the_window_is_refused():
    small = jnp.zeros((1, 20, 10, 3))
    with pytest.raises(ValueError, match="11 px does not fit a 20x10 image"):
        structure_loss(small, small)


def test_bfloat16_is_computed_in_float32():
    rounded = [image.astype(jnp.bfloat16) for image in random_images()]
    exact = [image.astype(jnp.float32) for image in rounded]
    loss = structure_loss(*rounded)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, structure_loss(*exact), rtol=1e-5)
