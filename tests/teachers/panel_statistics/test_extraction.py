"""Features of one tile's samples, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from strided_backbones import bilinear

from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.teachers.panel_statistics.extraction import Extractor


def _backbone(seen=None):
    """Pixels' brightness and red, at a third of the resolution."""

    def apply(params, images):
        if seen is not None:
            seen.append(images.shape)
        small = images[:, ::3, ::2]
        return params["gain"] * jnp.stack([small.mean(-1), small[..., 0]], axis=-1)

    return Backbone("brightness", "", {"gain": np.float32(4)}, apply)


@pytest.fixture
def samples():
    return np.random.default_rng(0).integers(0, 256, (5, 12, 10, 3), np.uint8)


def _features(samples):
    small = samples[:, ::3, ::2] / 255
    return 4 * np.stack([small.mean(-1), small[..., 0]], axis=-1)


@pytest.mark.parametrize("images_per_batch", [1, 2, 5, 8])
def test_features_are_the_same_in_any_batches_and_compiled_once(
    samples, images_per_batch
):
    seen = []
    extractor = Extractor(_backbone(seen), images_per_batch=images_per_batch)
    for _ in range(2):
        found = extractor.features(samples)
        np.testing.assert_allclose(found, _features(samples), atol=1e-5)
    assert seen == [(min(images_per_batch, 5), 12, 10, 3)]


def test_the_target_is_the_mean_on_the_networks_own_grid(samples):
    scale = np.array([0.5, 2], np.float32)
    found = Extractor(_backbone()).statistics(samples, scale, grid=3)
    assert found.target.dtype == np.float16 and found.target.shape == (4, 5, 2)
    expected = (_features(samples) / scale).mean(axis=0)
    np.testing.assert_allclose(found.target, expected, rtol=1e-3)


def test_the_target_may_be_the_features_of_the_mean_of_what_was_seen(samples):
    def squares(params, images):
        return images[:, ::3, ::2] ** 2

    scale = np.array([0.5, 2, np.inf], np.float32)
    extractor = Extractor(Backbone("squares", "", {}, squares))
    found = extractor.statistics(samples, scale, grid=3, target="features_of_mean")
    seen = samples.mean(axis=0) / 255
    expected = (seen[::3, ::2] ** 2) / scale
    assert found.target.dtype == np.float16 and found.target.shape == (4, 5, 3)
    np.testing.assert_allclose(found.target, expected, rtol=1e-3)
    usual = extractor.statistics(samples, scale, grid=3)
    # A convex feature of the mean is below the mean of features.
    assert np.all(found.target[..., :2] < usual.target[..., :2])
    np.testing.assert_array_equal(found.deviation, usual.deviation)
    assert found.variance_sum == usual.variance_sum


@pytest.mark.parametrize("grid", [3, 4, 11])
def test_the_variance_is_that_of_resampled_features_averaged_over_channels(
    samples, grid
):
    scale = np.array([0.5, 2], np.float32)
    found = Extractor(_backbone()).statistics(samples, scale, grid=grid)
    resampled = bilinear(_features(samples) / scale, grid)
    variance = resampled.var(axis=0).mean(axis=-1)
    assert found.deviation.dtype == np.float16
    np.testing.assert_allclose(found.deviation, np.sqrt(variance), rtol=1e-3)
    assert found.variance_sum == pytest.approx(variance.sum(), rel=1e-5)


def test_samples_that_agree_have_no_variance(samples):
    same = np.repeat(samples[:1], 4, axis=0)
    found = Extractor(_backbone()).statistics(same, np.ones(2, np.float32), grid=6)
    assert found.variance_sum < 1e-9
    assert found.deviation.max() < 1e-4
