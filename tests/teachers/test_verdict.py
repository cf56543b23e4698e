import numpy as np
import pytest
from test_gate import made_up_samples, made_up_tile, statistics_of

from fusionproxy_jax.teachers.gate import GateStatistics
from fusionproxy_jax.teachers.gate_table import gate_table
from fusionproxy_jax.teachers.verdict import failed_criteria, gate_report

DIFFER, AGREE, WEIGHT, SATURATION, CORRELATION = range(5)


def _report(*deviations, shift=0.0):
    """Of one teacher per deviation; a pair is one where sources agree, and not."""
    visible, infrared = made_up_tile()
    columns = np.arange(40) < 20
    teachers = [
        made_up_samples(
            visible, infrared, np.where(columns, agree, disagree)[None, :, None]
        )
        for agree, disagree in deviations
    ]
    samples = np.concatenate(teachers) + shift
    return gate_report(statistics_of(samples, visible, infrared))


def _failed(report):
    return [list(report["passed"]).index(name) for name in failed_criteria(report)]


def test_numbers_of_a_good_ensemble_are_as_made():
    report = _report((0.01, 0.03))
    assert report["deviation_where_sources_disagree"] == pytest.approx(0.03, rel=1e-3)
    assert report["deviation_where_sources_agree"] == pytest.approx(0.01, rel=1e-3)
    assert report["deviation"] == pytest.approx(np.sqrt(5e-4), rel=1e-3)
    assert report["deviation_between"] == pytest.approx(0, abs=1e-6)
    assert report["share_of_pixels_where_sources_disagree"] == 0.5
    assert report["median_infrared_weight"] == pytest.approx(0.5, abs=0.01)
    assert report["worst_added_saturation"] == 0
    assert report["median_low_pass_correlation"] > 0.9
    assert report["share_of_samples_with_low_correlation"] == 0
    assert len(report["passed"]) == 5 and _failed(report) == []


def test_within_is_the_mean_of_teachers_and_total_adds_what_is_between():
    report = _report((0.01, 0.03), (0.01, 0.05))
    mean = np.sqrt((0.03**2 + 0.05**2) / 2)
    assert report["deviation_where_sources_disagree"] == pytest.approx(mean, rel=1e-3)
    deviations = [
        teacher["deviation_where_sources_disagree"]
        for teacher in report["teachers"].values()
    ]
    assert deviations == pytest.approx([0.03, 0.05], rel=1e-3)
    for region in ("", "_where_sources_disagree", "_where_sources_agree"):
        parts = report["deviation" + region], report["deviation_between" + region]
        assert report["deviation_total" + region] == pytest.approx(np.hypot(*parts))


def test_a_teacher_without_spread_fails_whatever_the_others_do():
    assert _failed(_report((0.001, 0.009))) == [DIFFER]
    assert _failed(_report((0.01, 0.2), (0.001, 0.009))) == [DIFFER]


def test_a_teacher_that_is_unsure_where_sources_agree_fails():
    assert _failed(_report((0.014, 0.03), (0.016, 0.03))) == [AGREE]


def test_an_ensemble_of_one_source_fails_though_the_others_teachers_keep_both():
    # The gap between the sources is 0.4: a shift of 0.11 moves the weight by 0.275.
    report = _report((0.01, 0.03), shift=0.11)
    assert report["median_infrared_weight"] == pytest.approx(0.775, abs=0.01)
    assert _failed(report) == [WEIGHT]
    assert _failed(_report((0.01, 0.03), shift=-0.11)) == [WEIGHT]


def test_a_saturated_sample_fails():
    visible, infrared = made_up_tile()
    samples = made_up_samples(visible, infrared, 0.02)
    samples[0, 1, 0, :25] = 0.0
    report = gate_report(statistics_of(samples, visible, infrared))
    assert report["worst_added_saturation"] == pytest.approx(25 / 1280)
    assert SATURATION not in _failed(report)
    samples[0, 1, 0, :26] = 0.0
    report = gate_report(statistics_of(samples, visible, infrared))
    assert SATURATION in _failed(report)


def test_one_lost_tile_is_told_and_half_of_them_fail():
    visible, infrared = made_up_tile()
    samples = made_up_samples(visible, infrared, 0.02)
    good = statistics_of(samples, visible, infrared)
    lost = statistics_of(1 - samples, visible, infrared)
    report = gate_report(good + good + lost)
    assert report["lowest_low_pass_correlation"] < -0.9
    assert report["share_of_samples_with_low_correlation"] == pytest.approx(1 / 3)
    assert CORRELATION not in _failed(report)
    assert CORRELATION in _failed(gate_report(good + lost + lost))


def test_nothing_drawn_does_not_pass():
    assert not all(gate_report(GateStatistics())["passed"].values())


def test_the_table_has_a_line_for_each_teacher_part_and_criterion():
    report = _report((0.01, 0.03), (0.012, 0.05))
    table = gate_table(report | {"datasets": {"made_up": report}})
    lines = table.splitlines()
    assert "disagree" in lines[1] and lines[2].startswith("made_up: 1 tiles, 50%")
    assert lines[3].split()[:3] == ["one", "0.0300", "0.0100"]
    assert lines[4].split()[:3] == ["two", "0.0500", "0.0120"]
    assert [line.split()[0] for line in lines[5:7]] == ["between", "ensemble"]
    assert [line[:4] for line in lines[7:]] == ["pass"] * 5
    assert all(len(line) <= 100 for line in lines)


def test_the_table_of_one_teacher_says_nothing_twice():
    report = _report((0.01, 0.03))
    table = gate_table(report | {"datasets": {"made_up": report}})
    assert "between" not in table and "all data sets" not in table


def test_the_table_says_in_which_data_set_what_fails():
    good, bad = _report((0.01, 0.03)), _report((0.001, 0.003))
    table = gate_table(good | {"datasets": {"day": good, "night": bad}})
    (line,) = [line for line in table.splitlines() if line.startswith("FAIL")]
    assert line.startswith("FAIL  in night alone: every teacher's samples differ")
    titles = [line for line in table.splitlines() if " tiles, " in line]
    assert [title.split(":")[0] for title in titles] == [
        "all data sets",
        "day",
        "night",
    ]
