import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.diffusion.patches import depth_to_space, space_to_depth


def test_a_square_becomes_one_pixel_row_by_row():
    image = jnp.arange(8.0).reshape(1, 2, 4, 1)
    result = space_to_depth(image, 2)
    np.testing.assert_array_equal(result, [[[[0, 1, 4, 5], [2, 3, 6, 7]]]])


def test_channels_of_a_pixel_stay_together():
    image = np.random.default_rng(0).normal(size=(2, 6, 9, 2)).astype(np.float32)
    result = np.asarray(space_to_depth(jnp.asarray(image), 3))
    assert result.shape == (2, 2, 3, 18)
    np.testing.assert_array_equal(result[1, 1, 2, 10:12], image[1, 4, 8])


@pytest.mark.parametrize("side", [1, 2, 4])
def test_patches_unfold_to_the_image_they_were(side):
    image = jnp.arange(2 * 8 * 12 * 3.0).reshape(2, 8, 12, 3)
    result = depth_to_space(space_to_depth(image, side), side)
    np.testing.assert_array_equal(result, image)
