import numpy as np
import pytest

from fusionproxy_jax.teachers.gate import GateStatistics, gate_report, gate_statistics

SHAPE = (32, 40)


def _tile(seed=0):
    """Visible and infrared that agree on the left half and disagree on the right."""
    rng = np.random.default_rng(seed)
    visible = np.linspace(0.2, 0.4, 40) + 0.05 * rng.random(SHAPE)
    infrared = visible.copy()
    infrared[:, 20:] += 0.4
    return np.repeat(visible[..., None], 3, -1), infrared


def _samples(visible, infrared, deviation):
    """One teacher, two samples at the middle of the sources, apart by 2 deviation."""
    middle = (visible + infrared[..., None]) / 2
    return np.stack([middle - deviation, middle + deviation])[None]


def test_deviations_are_measured_where_sources_disagree_and_agree():
    visible, infrared = _tile()
    deviation = np.where(np.arange(40) < 20, 0.01, 0.03)[None, :, None]
    samples = _samples(visible, infrared, deviation)
    report = gate_report(gate_statistics(samples, visible, infrared))
    assert report["deviation_where_sources_disagree"] == pytest.approx(0.03, rel=1e-3)
    assert report["deviation_where_sources_agree"] == pytest.approx(0.01, rel=1e-3)
    assert report["deviation_between"] == 0
    assert report["share_of_pixels_where_sources_disagree"] == 0.5
    assert report["median_infrared_weight"] == pytest.approx(0.5, abs=0.01)
    assert all(report["passed"].values())


def test_samples_without_spread_fail():
    visible, infrared = _tile()
    samples = _samples(visible, infrared, 0.001)
    passed = gate_report(gate_statistics(samples, visible, infrared))["passed"]
    assert [ok for name, ok in passed.items() if "disagree" in name] == [False]


def test_two_teachers_apart_show_between():
    visible, infrared = _tile()
    one = _samples(visible, infrared, 0.02)
    statistics = gate_statistics(np.concatenate([one, one + 0.1]), visible, infrared)
    assert gate_report(statistics)["deviation_between"] == pytest.approx(0.05, rel=1e-3)


def test_saturation_counts_only_where_no_source_is_saturated():
    visible, infrared = _tile()
    visible[:4] = 1.0
    samples = _samples(visible, infrared, 0.02)
    samples[0, 1, :8] = 1.0
    statistics = gate_statistics(samples, visible, infrared)
    assert statistics.worst_saturation == pytest.approx(4 / 32)


def test_tiles_add_up_in_any_order_and_through_json():
    tiles = []
    for seed, deviation in ((0, 0.01), (1, 0.05)):
        visible, infrared = _tile(seed)
        samples = _samples(visible, infrared, deviation)
        tiles.append(gate_statistics(samples, visible, infrared))
    first, second = (GateStatistics.from_json(tile.to_json()) for tile in tiles)
    report = gate_report(first + second)
    assert report == gate_report(GateStatistics() + tiles[1] + tiles[0])
    expected = np.sqrt((0.01**2 + 0.05**2) / 2)
    assert report["deviation_within"] == pytest.approx(expected, rel=1e-3)
