import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fusionproxy_jax.panel.common_grid import resample


def _features(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("height_width", [(18, 18), (5, 7), (16, 9), (3, 1)])
def test_resampling_is_torchs_bilinear_interpolation(height_width):
    features = _features(2, *height_width, 3)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(features).permute(0, 3, 1, 2),
        size=(8, 8),
        mode="bilinear",
        align_corners=False,
        antialias=False,
    )
    np.testing.assert_allclose(
        resample(features, 8), theirs.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-6
    )


def test_the_common_grid_itself_is_left_as_it_is():
    features = _features(1, 6, 6, 2)
    np.testing.assert_array_equal(resample(features, 6), features)


def test_the_mean_of_resampled_samples_is_the_resampled_mean():
    samples = _features(4, 5, 7, 3)
    with jax.numpy_dtype_promotion("strict"):
        mean = jnp.mean(resample(samples, 9), axis=0)
        np.testing.assert_allclose(
            mean, resample(samples.mean(0, keepdims=True), 9)[0], rtol=1e-5, atol=1e-6
        )
