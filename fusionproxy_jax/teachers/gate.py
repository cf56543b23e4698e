"""Is an ensemble fit to teach? Numbers gathered tile by tile while a cache is built.

An ensemble passes when every teacher's samples differ where the sources do and agree
where they agree, when it keeps both sources, and when it invents neither saturation nor
structure. All in [0, 1]; statistics of tiles are added up, and `verdict`
judges them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fusionproxy_jax.teachers.ensemble import VarianceParts

# Sources disagree beyond the first and agree below the second, in luminance.
DISAGREE, AGREE = 0.2, 0.05
# A sample that correlates less with one of its sources has lost it.
LOW_CORRELATION = 0.3
# Where deviations are measured; the order of every array of three below.
REGIONS = ("disagree", "agree", "all")
_LOW_PASS_PX = 8
# Histograms of the infrared weight and of the low-pass correlation.
BINS = 200
WEIGHT_RANGE = (-0.5, 1.5)
CORRELATION_RANGE = (-1.0, 1.0)


def luminance(image: np.ndarray) -> np.ndarray:
    """Returns full-range BT.601 luminance [..., h, w] of RGB [..., h, w, 3]."""
    red, green, blue = np.moveaxis(image, -1, 0)
    return (
        np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    )


def _histogram() -> np.ndarray:
    return np.zeros(BINS, np.int64)


def _sums() -> np.ndarray:
    return np.zeros(len(REGIONS))


@dataclass
class TeacherStatistics:
    """Sums over the samples of one teacher, or of several; addition joins them."""

    # Summed variances within a teacher, by region.
    within: np.ndarray = field(default_factory=_sums)
    # Infrared weight of the mean sample, by pixel where sources disagree.
    weights: np.ndarray = field(default_factory=_histogram)
    # Low-pass correlation with the source it fits less, by sample.
    correlations: np.ndarray = field(default_factory=_histogram)
    num_low_correlations: int = 0
    lowest_correlation: float = 1.0
    # Largest share of saturated pixels of a sample where no source is saturated.
    worst_saturation: float = 0.0

    def __add__(self, other: "TeacherStatistics") -> "TeacherStatistics":
        """Joins two sets of samples."""
        return TeacherStatistics(
            within=self.within + other.within,
            weights=self.weights + other.weights,
            correlations=self.correlations + other.correlations,
            num_low_correlations=self.num_low_correlations + other.num_low_correlations,
            lowest_correlation=min(self.lowest_correlation, other.lowest_correlation),
            worst_saturation=max(self.worst_saturation, other.worst_saturation),
        )

    def to_json(self) -> dict:
        """Returns plain numbers and lists."""
        return {
            k: v.tolist() if hasattr(v, "tolist") else v for k, v in vars(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping) -> "TeacherStatistics":
        """Inverse of `to_json`."""
        return cls(
            **{
                **values,
                "within": _of_length(values["within"], len(REGIONS), float),
                "weights": _of_length(values["weights"], BINS, np.int64),
                "correlations": _of_length(values["correlations"], BINS, np.int64),
            }
        )


@dataclass
class GateStatistics:
    """Sums over tiles of what `verdict` judges; addition joins tiles."""

    num_tiles: int = 0
    # Pixels and summed variances, by region.
    num_pixels: np.ndarray = field(default_factory=lambda: np.zeros(3, np.int64))
    between: np.ndarray = field(default_factory=_sums)
    total: np.ndarray = field(default_factory=_sums)
    # Infrared weight of the ensemble mean, by pixel where sources disagree.
    weights: np.ndarray = field(default_factory=_histogram)
    teachers: dict[str, TeacherStatistics] = field(default_factory=dict)

    def __add__(self, other: "GateStatistics") -> "GateStatistics":
        """Joins two sets of tiles."""
        names = [*self.teachers, *(n for n in other.teachers if n not in self.teachers)]
        nothing = TeacherStatistics()
        return GateStatistics(
            num_tiles=self.num_tiles + other.num_tiles,
            num_pixels=self.num_pixels + other.num_pixels,
            between=self.between + other.between,
            total=self.total + other.total,
            weights=self.weights + other.weights,
            teachers={
                name: self.teachers.get(name, nothing)
                + other.teachers.get(name, nothing)
                for name in names
            },
        )

    def to_json(self) -> dict:
        """Returns plain numbers, lists and dicts."""
        return {
            "num_tiles": self.num_tiles,
            "num_pixels": self.num_pixels.tolist(),
            "between": self.between.tolist(),
            "total": self.total.tolist(),
            "weights": self.weights.tolist(),
            "teachers": {name: t.to_json() for name, t in self.teachers.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping) -> "GateStatistics":
        """Inverse of `to_json`."""
        return cls(
            num_tiles=values["num_tiles"],
            num_pixels=_of_length(values["num_pixels"], len(REGIONS), np.int64),
            between=_of_length(values["between"], len(REGIONS), float),
            total=_of_length(values["total"], len(REGIONS), float),
            weights=_of_length(values["weights"], BINS, np.int64),
            teachers={
                name: TeacherStatistics.from_json(teacher)
                for name, teacher in values["teachers"].items()
            },
        )


def gate_statistics(
    samples: np.ndarray,
    variance: VarianceParts,
    names: Sequence[str],
    visible: np.ndarray,
    infrared: np.ndarray,
    *,
    valid: tuple[slice, slice] = (slice(None), slice(None)),
) -> GateStatistics:
    """Returns the statistics of one tile's samples.

    Args:
      samples: RGB [t, n, h, w, 3] of t teachers.
      variance: of these samples.
      names: those of the teachers.
      visible: RGB [h, w, 3].
      infrared: [h, w].
      valid: rows and columns that count.
    """
    # Sums are float64: a cache adds up more pixels than float32 can count.
    total, within, between = (
        np.asarray(part, np.float64)[..., *valid] for part in variance
    )
    samples, visible, infrared = samples[:, :, *valid], visible[valid], infrared[valid]
    seen = luminance(visible)
    fused = luminance(samples)
    distance = np.abs(infrared - seen)
    regions = (distance > DISAGREE, distance < AGREE, np.ones_like(distance, bool))
    apart = regions[0]
    gap = (infrared - seen)[apart]

    def weights(mean: np.ndarray) -> np.ndarray:
        return _binned((mean - seen)[apart] / gap, WEIGHT_RANGE)

    free = ~(_saturated(seen) | _saturated(infrared))
    teachers = {}
    for name, spread, own in zip(names, within, fused, strict=True):
        correlations = np.array(
            [
                min(low_pass_correlation(one, source) for source in (seen, infrared))
                for one in own
            ]
        )
        teachers[name] = TeacherStatistics(
            within=_by_region(spread, regions),
            weights=weights(own.mean(0)),
            correlations=_binned(correlations, CORRELATION_RANGE),
            num_low_correlations=int((correlations <= LOW_CORRELATION).sum()),
            lowest_correlation=float(correlations.min()),
            worst_saturation=max(float((_saturated(f) & free).mean()) for f in own),
        )
    return GateStatistics(
        num_tiles=1,
        num_pixels=np.array([region.sum() for region in regions]),
        between=_by_region(between, regions),
        total=_by_region(total, regions),
        weights=weights(fused.mean((0, 1))),
        teachers=teachers,
    )


def _by_region(variance: np.ndarray, regions: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([variance[region].sum() for region in regions])


def _of_length(values: Sequence, length: int, dtype: type) -> np.ndarray:
    array = np.asarray(values, dtype)
    if array.shape != (length,):
        raise ValueError(f"{array.shape} numbers instead of {length}")
    return array


def _saturated(image: np.ndarray) -> np.ndarray:
    half_level = 0.5 / 255.0
    return (image < half_level) | (image > 1.0 - half_level)


def _binned(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return np.histogram(np.clip(values, *limits), BINS, limits)[0]


def low_pass_correlation(fused: np.ndarray, source: np.ndarray) -> float:
    """Returns Pearson's correlation of block means of images [h, w].

    A flat source has nothing to lose: 1. A flat fused image has lost it: 0.
    """
    fused, source = _block_means(fused), _block_means(source)
    fused, source = fused - fused.mean(), source - source.mean()
    if np.mean(source**2) < 1e-6:
        return 1.0
    norm = np.sqrt(np.sum(fused**2) * np.sum(source**2))
    return float(np.sum(fused * source) / norm) if norm > 1e-6 else 0.0


def _block_means(image: np.ndarray) -> np.ndarray:
    px = min(_LOW_PASS_PX, *image.shape)
    height, width = (side // px * px for side in image.shape)
    blocks = image[:height, :width].reshape(height // px, px, width // px, px)
    return blocks.mean((1, 3))
