"""Is an ensemble fit to teach? Numbers gathered tile by tile while a cache is built.

A teacher passes when its samples differ where the sources do and agree where they
agree, when it keeps both sources, and when it invents neither saturation nor
structure. All in [0, 1]. NumPy only; statistics of tiles are added up.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

# Sources disagree beyond the first and agree below the second, in luminance.
DISAGREE, AGREE = 0.2, 0.05
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_LOW_PASS_PX = 8
# Histograms of the infrared weight and of the low-pass correlation.
_BINS = 200
_WEIGHT_RANGE = (-0.5, 1.5)
_CORRELATION_RANGE = (-1.0, 1.0)


def _zeros() -> np.ndarray:
    return np.zeros(_BINS, np.int64)


@dataclass
class GateStatistics:
    """Sums over pixels and samples; addition joins tiles."""

    # Summed variances and their pixel counts.
    num_disagree: int = 0
    num_agree: int = 0
    num_pixels: int = 0
    within_disagree: float = 0.0
    within_agree: float = 0.0
    within: float = 0.0
    between: float = 0.0
    # Largest share of saturated pixels of a sample where no source is saturated.
    worst_saturation: float = 0.0
    weights: np.ndarray = field(default_factory=_zeros)
    correlations: np.ndarray = field(default_factory=_zeros)

    def __add__(self, other: "GateStatistics") -> "GateStatistics":
        """Joins the statistics of two sets of tiles."""
        joined = {
            f.name: getattr(self, f.name) + getattr(other, f.name)
            for f in dataclasses.fields(self)
        }
        joined["worst_saturation"] = max(self.worst_saturation, other.worst_saturation)
        return GateStatistics(**joined)

    def to_json(self) -> dict:
        """Returns plain numbers and lists."""
        values = dataclasses.asdict(self)
        return {k: v.tolist() if hasattr(v, "tolist") else v for k, v in values.items()}

    @classmethod
    def from_json(cls, values: dict) -> "GateStatistics":
        """Inverse of `to_json`."""
        values = dict(values)
        for name in ("weights", "correlations"):
            values[name] = np.asarray(values[name], np.int64)
        return cls(**values)


def gate_statistics(
    samples: np.ndarray, visible: np.ndarray, infrared: np.ndarray
) -> GateStatistics:
    """Returns the statistics of one tile's samples.

    Args:
      samples: RGB [t, n, h, w, 3] of t teachers.
      visible: RGB [h, w, 3].
      infrared: [h, w].
    """
    seen = visible @ _LUMA
    fused = samples @ _LUMA
    distance = np.abs(infrared - seen)
    disagree, agree = distance > DISAGREE, distance < AGREE
    within = samples.var(1).mean((0, -1))
    between = samples.mean(1).var(0).mean(-1)
    gap = (infrared - seen)[disagree]
    weights = (fused.mean((0, 1)) - seen)[disagree] / gap
    fused = fused.reshape(-1, *seen.shape)
    free = ~(_saturated(seen) | _saturated(infrared))
    correlations = [
        min(_low_pass_correlation(one, seen), _low_pass_correlation(one, infrared))
        for one in fused
    ]
    return GateStatistics(
        num_disagree=int(disagree.sum()),
        num_agree=int(agree.sum()),
        num_pixels=distance.size,
        within_disagree=float(within[disagree].sum()),
        within_agree=float(within[agree].sum()),
        within=float(within.sum()),
        between=float(between.sum()),
        worst_saturation=max(float((_saturated(f) & free).mean()) for f in fused),
        weights=_histogram(weights, _WEIGHT_RANGE),
        correlations=_histogram(np.array(correlations), _CORRELATION_RANGE),
    )


def gate_report(statistics: GateStatistics) -> dict:
    """Returns the numbers a reader wants, and under `passed` what holds.

    Deviations are roots of mean variances. Tiles are small and the sources' polarity
    may be opposite in one, so the correlation judged is that of the median sample.
    """
    s = statistics
    deviation_disagree = _root_mean(s.within_disagree, s.num_disagree)
    deviation_agree = _root_mean(s.within_agree, s.num_agree)
    weight = _median(s.weights, _WEIGHT_RANGE)
    correlation = _median(s.correlations, _CORRELATION_RANGE)
    return {
        "deviation_within": _root_mean(s.within, s.num_pixels),
        "deviation_between": _root_mean(s.between, s.num_pixels),
        "deviation_where_sources_disagree": deviation_disagree,
        "deviation_where_sources_agree": deviation_agree,
        "share_of_pixels_where_sources_disagree": s.num_disagree / max(s.num_pixels, 1),
        "median_infrared_weight": weight,
        "worst_added_saturation": s.worst_saturation,
        "median_low_pass_correlation": correlation,
        "passed": {
            "samples differ where sources disagree (>= 0.01)": deviation_disagree
            >= 0.01,
            "and half as much at most where they agree": deviation_agree
            <= deviation_disagree / 2,
            "median infrared weight in [0.25, 0.75]": 0.25 <= weight <= 0.75,
            "no sample adds more than 2 % saturation": s.worst_saturation <= 0.02,
            "median low-pass correlation with both sources > 0.3": correlation > 0.3,
        },
    }


def _root_mean(total: float, count: int) -> float:
    return float(np.sqrt(total / max(count, 1)))


def _saturated(luminance: np.ndarray) -> np.ndarray:
    half_level = 0.5 / 255.0
    return (luminance < half_level) | (luminance > 1.0 - half_level)


def _histogram(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return np.histogram(np.clip(values, *limits), _BINS, limits)[0]


def _median(histogram: np.ndarray, limits: tuple[float, float]) -> float:
    """Returns the middle of the bin that holds the median; 0 for an empty one."""
    if not histogram.sum():
        return 0.0
    position = np.searchsorted(np.cumsum(histogram), histogram.sum() / 2)
    return float(limits[0] + (position + 0.5) / _BINS * (limits[1] - limits[0]))


def _low_pass_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Pearson's correlation of block means; 1 where one image is flat."""
    first, second = _block_means(first), _block_means(second)
    first, second = first - first.mean(), second - second.mean()
    norm = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / norm) if norm > 1e-6 else 1.0


def _block_means(image: np.ndarray) -> np.ndarray:
    px = min(_LOW_PASS_PX, *image.shape)
    height, width = (side // px * px for side in image.shape)
    blocks = image[:height, :width].reshape(height // px, px, width // px, px)
    return blocks.mean((1, 3))
