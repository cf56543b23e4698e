import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.images import read_infrared
from fusionproxy_jax.runtime.thermal import normalize, value_range


@pytest.fixture
def frame():
    """Raw counts of a scene between 7000 and 7400."""
    rng = np.random.default_rng(0)
    return rng.integers(7000, 7400, (48, 64)).astype(np.uint16)


def test_percentiles_become_zero_and_one(frame):
    ordered = np.sort(frame.ravel()).astype(float)
    position = 0.005 * (ordered.size - 1)
    below = int(position)
    low = ordered[below] + (position - below) * (ordered[below + 1] - ordered[below])
    assert value_range(frame)[0] == pytest.approx(low)

    low, high = value_range(frame)
    expected = np.empty(frame.shape)
    for row in range(frame.shape[0]):
        for column in range(frame.shape[1]):
            value = (frame[row, column] - low) / (high - low)
            expected[row, column] = min(max(value, 0), 1)
    np.testing.assert_allclose(normalize(frame), expected, atol=1e-6)


def test_warmer_is_never_darker(frame):
    normal = normalize(frame).ravel()[np.argsort(frame, axis=None)]
    assert np.all(np.diff(normal) >= 0)
    assert normal[0] == 0
    assert normal[-1] == 1


def test_a_dead_and_a_burning_pixel_change_nothing_else(frame):
    damaged = frame.copy()
    damaged[3, 4], damaged[5, 6] = 1, 65535
    changed = np.abs(normalize(damaged) - normalize(frame))
    changed[[3, 5], [4, 6]] = 0
    assert changed.max() < 0.01


def test_unmeasured_borders_do_not_take_part(frame):
    bordered = np.pad(frame, 20)
    inner = normalize(bordered)[20:-20, 20:-20]
    np.testing.assert_array_equal(inner, normalize(frame))


@pytest.mark.parametrize("value", [0, 7000, 65535])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_flat_frame_is_black(value, dtype):
    normal = normalize(np.full((20, 30), value, dtype))
    assert normal.dtype == np.float32
    assert not normal.any()


def test_sensor_noise_is_not_stretched_into_a_picture():
    noise = np.random.default_rng(0).integers(7000, 7004, (48, 64)).astype(np.uint16)
    assert normalize(noise).max() < 0.1


def test_kelvins_and_counts_of_the_same_scene_look_the_same(frame):
    kelvin = frame.astype(np.float32) * 0.04
    np.testing.assert_allclose(normalize(kelvin), normalize(frame), atol=1e-4)


def test_fixed_limits_make_frames_comparable(frame):
    warmer = frame + np.uint16(40)
    limits = (7000.0, 7500.0)
    difference = normalize(warmer, limits=limits) - normalize(frame, limits=limits)
    np.testing.assert_allclose(difference, 40 / 500, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(bad):
    frame = np.full((20, 30), 300.0, np.float32)
    frame[1, 2] = bad
    with pytest.raises(FusionProxyError, match="1 of 600 thermal values are NaN"):
        normalize(frame)


def test_real_raw_frames_use_the_whole_range_and_clip_one_percent(real_data):
    paths = [p for p in (real_data / "thermal16").iterdir() if p.suffix != ".jpg"]
    assert len(paths) == 4
    for path in paths:
        frame = read_infrared(path)
        assert frame.dtype == np.uint16
        normal = normalize(frame)
        assert np.mean((normal == 0) | (normal == 1)) < 0.015
        assert normal.min() == 0
        assert normal.max() == 1
