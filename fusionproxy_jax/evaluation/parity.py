"""How far deployed forms of a student are from a reference, and what that costs.

Everything is told in grey levels, 0 to 255. Float forms are compared unrounded, camera
forms as the integers they give. Fusion metrics are those of the rounded images.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.deployed_form import (
    DeployedForm,
    common_size,
    sized_pair,
)
from fusionproxy_jax.evaluation.extreme_pairs import Pair, extreme_pairs
from fusionproxy_jax.evaluation.image_graph import Size
from fusionproxy_jax.evaluation.metrics import METRICS, measure
from fusionproxy_jax.runtime.cores import num_physical_cores

EXTREME_SIZES: tuple[Size, ...] = ((480, 640), (1080, 1920))
"""Of the extreme pairs, for forms that take any size."""


@dataclass(frozen=True, kw_only=True)
class FormParity:
    """One form beside the reference.

    Attributes:
        form: Its name.
        max_error: Largest difference of a channel of a pixel, in levels.
        mean_error: Mean absolute difference, in levels.
        psnr_db: Of the mean squared error over all pairs; None where there is no
            difference at all, as for the next.
        worst_psnr_db: Of the pair with the largest mean squared error.
        metric_change: Mean over pairs of this form's fusion metrics less those of the
            reference, by metric; empty where they were not wanted.
        not_finite: Pairs, real or extreme, that gave inf or NaN. Real ones among them
            count for nothing above; where none is left, errors are infinite.
    """

    form: str
    max_error: float
    mean_error: float
    psnr_db: float | None
    worst_psnr_db: float | None
    metric_change: Mapping[str, float]
    not_finite: tuple[str, ...]


@dataclass(frozen=True)
class _Difference:
    """Of one form on one pair, per channel of a pixel; None: not finite."""

    num_values: int
    absolute: float
    square: float
    largest: float
    metric_change: Sequence[float]


def measure_parity(
    reference: DeployedForm,
    forms: Sequence[DeployedForm],
    pairs: Sequence[tuple[str, Pair]],
    *,
    extreme_sizes: Sequence[Size] = EXTREME_SIZES,
    metrics: bool = True,
    progress: Callable[[], None] = lambda: None,
) -> list[FormParity]:
    """Returns how each of `forms` differs from `reference`.

    Pairs are resized where one of the two takes one size only. One pair per core is
    worked on, so forms had better be opened with one thread.

    Args:
        reference: Usually the float32 form.
        forms: Of the same student.
        pairs: With names; at least one.
        extreme_sizes: Where forms must stay finite on extreme pairs; a fixed size is
            taken instead by a form that has one.
        metrics: Whether to measure fusion metrics, a third of a second for each image.
        progress: Called after each pair.

    Raises:
        FusionProxyError: There are no pairs, two forms take different fixed sizes, or
            the reference gives inf or NaN.
    """
    if not len(pairs):
        raise FusionProxyError("there are no pairs to compare forms on; give some")
    sizes = [common_size(reference, form) for form in forms]
    with ThreadPoolExecutor(num_physical_cores()) as executor:
        rows = []
        for row in executor.map(
            lambda index: _differences(reference, forms, sizes, pairs[index], metrics),
            range(len(pairs)),
        ):
            rows.append(row)
            progress()
    return [
        _summary(form, differences, extreme_sizes)
        for form, *differences in zip(forms, *rows, strict=True)
    ]


def psnr(mean_square: float) -> float | None:
    """Returns 10 log10(255^2 / MSE) in dB; None for no error."""
    if mean_square == 0:
        return None
    return 20 * math.log10(255.0) - 10 * math.log10(mean_square)


def _differences(
    reference: DeployedForm,
    forms: Sequence[DeployedForm],
    sizes: Sequence[Size | None],
    named_pair: tuple[str, Pair],
    metrics: bool,
) -> list[_Difference | str]:
    """Returns one difference per form; the pair's name where one is not finite."""
    name, pair = named_pair
    expected: dict[Size | None, tuple] = {}
    for size in set(sizes):
        visible, infrared = sized_pair(pair, size)
        fused = reference(visible, infrared)
        if not np.isfinite(fused).all():
            raise FusionProxyError(
                f"{reference.source} itself gives values that are not finite for "
                f"{name}; compare with a form that works"
            )
        measured = _metrics(fused, visible, infrared) if metrics else None
        expected[size] = (visible, infrared, fused, measured)
    differences: list[_Difference | str] = []
    for form, size in zip(forms, sizes, strict=True):
        visible, infrared, wanted, measured = expected[size]
        fused = form(visible, infrared)
        if not np.isfinite(fused).all():
            differences.append(name)
            continue
        magnitude = np.abs(fused - wanted).astype(np.float64)
        change = (
            _metrics(fused, visible, infrared) - measured if metrics else np.zeros(0)
        )
        differences.append(
            _Difference(
                magnitude.size,
                float(magnitude.mean()),
                float(np.mean(magnitude**2)),
                float(magnitude.max()),
                change.tolist(),
            )
        )
    return differences


def _summary(
    form: DeployedForm,
    differences: Sequence[_Difference | str],
    extreme_sizes: Sequence[Size],
) -> FormParity:
    finite = [given for given in differences if isinstance(given, _Difference)]
    not_finite = [given for given in differences if isinstance(given, str)]
    for size in [form.fixed_size] if form.fixed_size else extreme_sizes:
        for name, pair in extreme_pairs(*size).items():
            if not np.isfinite(form(*pair)).all():
                not_finite.append(f"{name} {size[0]}x{size[1]}")
    if not finite:
        finite = [_Difference(1, math.inf, math.inf, math.inf, ())]
    # Larger images have more pixels to be wrong in.
    weights = [difference.num_values for difference in finite]
    changes = np.mean([difference.metric_change for difference in finite], axis=0)
    return FormParity(
        form=form.source,
        max_error=max(difference.largest for difference in finite),
        mean_error=float(np.average([d.absolute for d in finite], weights=weights)),
        psnr_db=psnr(float(np.average([d.square for d in finite], weights=weights))),
        worst_psnr_db=psnr(max(difference.square for difference in finite)),
        metric_change=dict(zip(METRICS, changes.tolist(), strict=False)),
        not_finite=tuple(not_finite),
    )


def _metrics(
    levels: np.ndarray, visible: np.ndarray, infrared: np.ndarray
) -> np.ndarray:
    fused = np.rint(levels.clip(0, 255)).astype(np.uint8)
    measured = measure(fused, visible, infrared)
    return np.array([measured[metric] for metric in METRICS])
