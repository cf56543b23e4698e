"""The scale of channels from sums, in any partition of the images."""

import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.panel_statistics.moments import Moments


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    maps = rng.normal(5, [1, 0.1, 3, 1e-2], size=(7, 5, 6, 4))
    return maps.astype(np.float32)


def test_the_scale_is_the_standard_deviation_of_every_channel(features):
    expected = features.astype(np.float64).std(axis=(0, 1, 2))
    scale = Moments.of(features).scale
    assert scale.dtype == np.float32
    np.testing.assert_allclose(scale, expected, rtol=1e-6)


def test_parts_together_are_the_whole(features):
    whole = Moments.of(features)
    parts = Moments.total([Moments.of(features[:2]), Moments.of(features[2:])])
    assert parts.count == whole.count == 7 * 5 * 6
    np.testing.assert_allclose(parts.scale, whole.scale, rtol=1e-6)


def test_channels_below_a_thousandth_of_the_median_scale_are_silent():
    rng = np.random.default_rng(0)
    # The median of the scales is 2.
    deviations = np.array([2, 0.0, 2, 1.9e-3, 2.1e-3, 2, 900])
    values = rng.normal(size=(1, 50, 40, 1))
    values = (values - values.mean()) / values.std()
    scale = Moments.of(values * deviations).scale
    np.testing.assert_array_equal(np.flatnonzero(np.isinf(scale)), [1, 3])
    heard = [0, 2, 4, 5, 6]
    np.testing.assert_allclose(scale[heard], deviations[heard], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 77.7])
def test_constant_channels_alone_have_the_smallest_scale(value):
    scale = Moments.of(np.full((3, 9, 9, 2), value, np.float32)).scale
    np.testing.assert_allclose(scale, 1e-6, rtol=0.5)


def test_moments_come_back_from_disk_as_they_were(features, tmp_path):
    moments = Moments.of(features)
    moments.write(tmp_path / "moments.npz")
    found = Moments.read(tmp_path / "moments.npz")
    assert found.count == moments.count
    np.testing.assert_array_equal(found.sums, moments.sums)
    np.testing.assert_array_equal(found.squares, moments.squares)


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_damaged_file_is_named(features, tmp_path, damage):
    path = tmp_path / "moments.npz"
    Moments.of(features).write(path)
    path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
    with pytest.raises(FusionProxyError, match="moments.npz is damaged; delete it"):
        Moments.read(path)
