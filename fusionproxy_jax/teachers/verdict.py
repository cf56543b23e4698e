"""What the gate's statistics say: numbers a reader wants, and which criteria hold."""

from collections.abc import Mapping

import numpy as np

from fusionproxy_jax.teachers.gate import (
    CORRELATION_RANGE,
    LOW_CORRELATION,
    REGIONS,
    WEIGHT_RANGE,
    GateStatistics,
    TeacherStatistics,
)

MIN_DEVIATION = 0.01
# Of the deviation where sources agree to that where they disagree.
MAX_AGREEMENT_RATIO = 0.5
WEIGHT_LIMITS = (0.25, 0.75)
MAX_SATURATION = 0.02


def gate_report(statistics: GateStatistics) -> dict:
    """Returns the numbers of an ensemble and of each teacher; `passed` says what holds.

    Deviations are roots of mean variances; those not called otherwise are within
    teachers. Samples differ, and agree, by the criteria in every teacher by itself:
    the spread of one must not hide that another has none. Tiles are small and the
    sources' polarity may be opposite in one, where no image can correlate with both:
    the correlation judged is that of the median sample, and the share of samples
    below the limit is told.
    """
    s = statistics
    counts = dict(zip(REGIONS, s.num_pixels, strict=True))
    teachers = {name: _of_samples(t, counts) for name, t in s.teachers.items()}
    joined = sum(s.teachers.values(), TeacherStatistics())
    # Equally many samples of each: the mean of their variances.
    joined.within = joined.within / max(len(s.teachers), 1)
    joined.weights = s.weights
    report = {
        "num_tiles": s.num_tiles,
        "share_of_pixels_where_sources_disagree": _share(counts, "disagree"),
        "share_of_pixels_where_sources_agree": _share(counts, "agree"),
        **_of_samples(joined, counts),
        **_deviations("deviation_between", s.between, counts),
        **_deviations("deviation_total", s.total, counts),
        "teachers": teachers,
    }
    return report | {"passed": _passed(report)}


def failed_criteria(report: Mapping) -> list[str]:
    """Returns the criteria that do not hold."""
    return [name for name, holds in report["passed"].items() if not holds]


def _passed(report: Mapping) -> dict[str, bool]:
    teachers = report["teachers"].values()
    low, high = WEIGHT_LIMITS
    return {
        "every teacher's samples differ where sources disagree "
        f"(>= {MIN_DEVIATION})": all(
            t["deviation_where_sources_disagree"] >= MIN_DEVIATION for t in teachers
        ),
        "every teacher's samples agree where sources do "
        f"(<= {MAX_AGREEMENT_RATIO} times that)": all(
            t["deviation_where_sources_agree"]
            <= MAX_AGREEMENT_RATIO * t["deviation_where_sources_disagree"]
            for t in teachers
        ),
        f"median infrared weight in [{low}, {high}]": low
        <= report["median_infrared_weight"]
        <= high,
        f"no sample adds more than {MAX_SATURATION:.0%} saturation": report[
            "worst_added_saturation"
        ]
        <= MAX_SATURATION,
        f"median low-pass correlation with both sources > {LOW_CORRELATION}": report[
            "median_low_pass_correlation"
        ]
        > LOW_CORRELATION,
    }


def _of_samples(samples: TeacherStatistics, counts: Mapping[str, int]) -> dict:
    num_samples = int(samples.correlations.sum())
    return {
        **_deviations("deviation", samples.within, counts),
        "median_infrared_weight": _median(samples.weights, WEIGHT_RANGE),
        "worst_added_saturation": samples.worst_saturation,
        "median_low_pass_correlation": _median(samples.correlations, CORRELATION_RANGE),
        "lowest_low_pass_correlation": samples.lowest_correlation,
        "share_of_samples_with_low_correlation": samples.num_low_correlations
        / max(num_samples, 1),
    }


def _deviations(
    name: str, variances: np.ndarray, counts: Mapping[str, int]
) -> dict[str, float]:
    """Returns the root mean variance of every region, by name."""
    found = {}
    for region, variance in zip(REGIONS, variances, strict=True):
        key = name if region == "all" else f"{name}_where_sources_{region}"
        found[key] = float(np.sqrt(variance / max(counts[region], 1)))
    return found


def _share(counts: Mapping[str, int], region: str) -> float:
    return float(counts[region] / max(counts["all"], 1))


def _median(histogram: np.ndarray, limits: tuple[float, float]) -> float:
    """Returns the middle of the bin that holds the median; 0 for an empty one."""
    if not histogram.sum():
        return 0.0
    position = np.searchsorted(np.cumsum(histogram), histogram.sum() / 2)
    width = (limits[1] - limits[0]) / len(histogram)
    return float(limits[0] + (position + 0.5) * width)
