import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from fusionproxy_jax.losses.pixel import pixel_loss, pixel_weights


def random_images(seed=0, shape=(3, 5, 7, 2)):
    generator = np.random.default_rng(seed)
    fused, mean = generator.random((2, *shape), np.float32)
    variance = 0.01 * generator.random(shape[:3], np.float32)
    return jnp.asarray(fused), jnp.asarray(mean), jnp.asarray(variance)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_the_loss_is_equation_7(epsilon):
    fused, mean, variance = random_images()
    loss = pixel_loss(fused, mean, variance, epsilon=epsilon)
    expected = [
        oracles.pixel_loss(*map(np.asarray, image), epsilon)
        for image in zip(fused, mean, variance, strict=True)
    ]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_weights_sum_to_one_over_each_image():
    _, _, variance = random_images()
    weights = pixel_weights(variance)
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1, rtol=1e-6)


def test_zero_variance_gives_the_plain_mean_absolute_error():
    fused, mean, variance = random_images()
    loss = pixel_loss(fused, mean, jnp.zeros_like(variance))
    np.testing.assert_allclose(
        loss, jnp.abs(fused - mean).mean(axis=(1, 2, 3)), rtol=1e-6
    )


def test_a_large_epsilon_weights_pixels_equally():
    _, _, variance = random_images()
    np.testing.assert_allclose(pixel_weights(variance, epsilon=1e4), 1 / 35, rtol=1e-5)


def test_a_pixel_of_variance_epsilon_counts_half():
    variance = jnp.array([[[0.0, 1e-3], [0.0, 0.0]]])
    np.testing.assert_allclose(
        pixel_weights(variance), [[[2 / 7, 1 / 7], [2 / 7, 2 / 7]]], rtol=1e-6
    )


def test_images_of_a_batch_do_not_influence_each_other():
    fused, mean, variance = random_images()
    alone = pixel_loss(fused[:1], mean[:1], variance[:1])
    np.testing.assert_allclose(pixel_loss(fused, mean, variance)[:1], alone, rtol=1e-6)


def test_gradients_are_finite_where_the_student_is_exact():
    _, mean, variance = random_images()
    gradient = jax.grad(lambda fused: pixel_loss(fused, mean, variance).sum())(mean)
    assert np.all(np.isfinite(gradient))


def test_bfloat16_is_summed_in_float32():
    fused, mean, variance = random_images(shape=(1, 64, 64, 3))
    rounded = [array.astype(jnp.bfloat16) for array in (fused, mean, variance)]
    loss = pixel_loss(*rounded)
    assert loss.dtype == jnp.float32
    exact = pixel_loss(*[array.astype(jnp.float32) for array in rounded])
    np.testing.assert_array_equal(loss, exact)
