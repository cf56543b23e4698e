import numpy as np
import pytest

from fusionproxy_jax.teachers.ensemble import decompose_variance
from fusionproxy_jax.teachers.gate import (
    GateStatistics,
    gate_statistics,
    low_pass_correlation,
    luminance,
)

SHAPE = (32, 40)


def made_up_tile(seed=0):
    """Visible and infrared that agree on the left half and disagree on the right."""
    rng = np.random.default_rng(seed)
    visible = np.linspace(0.2, 0.4, 40) + 0.05 * rng.random(SHAPE)
    infrared = visible.copy()
    infrared[:, 20:] += 0.4
    return np.repeat(visible[..., None], 3, -1), infrared


def made_up_samples(visible, infrared, deviation):
    """One teacher, two samples at the middle of the sources, apart by 2 deviation."""
    middle = (visible + infrared[..., None]) / 2
    return np.stack([middle - deviation, middle + deviation])[None]


def statistics_of(samples, visible, infrared, names=("one", "two"), **valid):
    names = names[: len(samples)]
    variance = decompose_variance(samples)
    return gate_statistics(samples, variance, names, visible, infrared, **valid)


def test_variances_are_summed_where_sources_disagree_agree_and_everywhere():
    visible, infrared = made_up_tile()
    deviation = np.where(np.arange(40) < 20, 0.01, 0.03)[None, :, None]
    found = statistics_of(
        made_up_samples(visible, infrared, deviation), visible, infrared
    )
    np.testing.assert_array_equal(found.num_pixels, [640, 640, 1280])
    expected = np.array([640 * 9e-4, 640 * 1e-4, 640 * 1e-3])
    np.testing.assert_allclose(found.teachers["one"].within, expected, rtol=1e-3)
    np.testing.assert_allclose(found.total, expected, rtol=1e-3)
    np.testing.assert_allclose(found.between, 0, atol=1e-6)


def test_two_teachers_apart_are_told_from_the_spread_of_each():
    visible, infrared = made_up_tile()
    one = made_up_samples(visible, infrared, 0.02)
    other = made_up_samples(visible, infrared, 0.04) + 0.1
    found = statistics_of(np.concatenate([one, other]), visible, infrared)
    within = [t.within[-1] / 1280 for t in found.teachers.values()]
    np.testing.assert_allclose(within, [4e-4, 16e-4], rtol=1e-3)
    np.testing.assert_allclose(found.between[-1] / 1280, 0.05**2, rtol=1e-3)
    within = sum(teacher.within for teacher in found.teachers.values()) / 2
    np.testing.assert_allclose(found.total, within + found.between, rtol=1e-5)


def test_saturation_counts_only_where_no_source_is_saturated():
    visible, infrared = made_up_tile()
    visible[:4] = 1.0
    samples = made_up_samples(visible, infrared, 0.02)
    samples[0, 1, :8] = 1.0
    found = statistics_of(samples, visible, infrared)
    assert found.teachers["one"].worst_saturation == pytest.approx(4 / 32)


def test_padding_counts_nowhere():
    visible, infrared = made_up_tile()
    samples = made_up_samples(visible, infrared, 0.02)
    wide = [(0, 8), (0, 24)]
    padded = statistics_of(
        np.pad(samples, [(0, 0), (0, 0), *wide, (0, 0)]),
        np.pad(visible, [*wide, (0, 0)]),
        np.pad(infrared, wide),
        valid=(slice(32), slice(40)),
    )
    assert padded.to_json() == statistics_of(samples, visible, infrared).to_json()


def test_tiles_add_up_in_any_order_and_through_json():
    tiles = []
    for seed, deviation in ((0, 0.01), (1, 0.05)):
        visible, infrared = made_up_tile(seed)
        samples = made_up_samples(visible, infrared, deviation)
        samples = np.concatenate([samples, samples * 0.9])
        tiles.append(statistics_of(samples, visible, infrared))
    first, second = (GateStatistics.from_json(tile.to_json()) for tile in tiles)
    joined = first + second
    assert joined.to_json() == (GateStatistics() + tiles[1] + tiles[0]).to_json()
    assert joined.num_tiles == 2 and joined.num_pixels[-1] == 2 * 1280
    np.testing.assert_allclose(
        joined.teachers["one"].within[-1], 1280 * (0.01**2 + 0.05**2), rtol=1e-3
    )
    lowest = [tile.teachers["two"].lowest_correlation for tile in tiles]
    assert joined.teachers["two"].lowest_correlation == min(lowest)


@pytest.mark.parametrize("name", ["weights", "between", "teachers"])
def test_cut_off_statistics_are_no_statistics(name):
    visible, infrared = made_up_tile()
    samples = made_up_samples(visible, infrared, 0.02)
    values = statistics_of(samples, visible, infrared).to_json()
    broken = values[name] if name != "teachers" else values[name]["one"]["within"]
    broken.pop()
    with pytest.raises(ValueError, match="numbers instead of"):
        GateStatistics.from_json(values)


def test_low_pass_correlation_sees_structure_not_noise_or_contrast():
    rng = np.random.default_rng(0)
    source = np.kron(rng.random((4, 5)), np.ones((8, 8)))
    noise = np.kron(np.ones((16, 20)), [[0.2, -0.2], [-0.2, 0.2]])
    assert low_pass_correlation(0.3 * source + 0.5 + noise, source) > 0.999
    assert low_pass_correlation(1 - source, source) < -0.999
    blocks = source[::8, ::8]
    other = rng.random((4, 5))
    expected = np.corrcoef(other.ravel(), blocks.ravel())[0, 1]
    found = low_pass_correlation(np.kron(other, np.ones((8, 8))), source)
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_flat_source_cannot_be_lost_and_a_flat_sample_has_lost_it():
    flat, source = np.full(SHAPE, 0.5), np.eye(*SHAPE)
    assert low_pass_correlation(source, flat) == 1.0
    assert low_pass_correlation(flat, source) == 0.0


def test_luminance_is_that_of_bt_601():
    colours = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]], np.float32)
    np.testing.assert_allclose(luminance(colours), [[0.299, 0.587, 0.114, 1.0]])
