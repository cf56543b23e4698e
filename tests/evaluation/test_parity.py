import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.deployed_form import common_size
from fusionproxy_jax.evaluation.graph_images import camera_noise
from fusionproxy_jax.evaluation.metrics import METRICS, measure
from fusionproxy_jax.evaluation.parity import measure_parity, psnr


class _Function:
    """Stands for an opened file."""

    def __init__(self, source, fuse, fixed_size=None):
        self.source, self.fixed_size, self._fuse = source, fixed_size, fuse
        self.sizes = []

    def __call__(self, visible, infrared):
        self.sizes.append(infrared.shape)
        return self._fuse(visible.astype(np.float32), infrared)


VISIBLE = _Function("visible", lambda visible, infrared: visible)
SIZES = ((48, 64), (96, 128))
PAIRS = [(f"pair {i}", camera_noise(*size, seed=i)) for i, size in enumerate(SIZES)]


def _off(levels):
    return _Function("off", lambda visible, infrared: visible + levels(visible))


def test_errors_are_pooled_over_pixels_and_told_for_the_worst_pair():
    form = _off(lambda visible: 1.0 if len(visible) == 48 else 3.0)
    (parity,) = measure_parity(VISIBLE, [form], PAIRS, extreme_sizes=[], metrics=False)
    # The second pair has four times the pixels of the first.
    assert parity.mean_error == pytest.approx((1 + 4 * 3) / 5)
    assert parity.max_error == pytest.approx(3, abs=1e-5)
    assert parity.psnr_db == pytest.approx(20 * np.log10(255 / np.sqrt(37 / 5)))
    assert parity.worst_psnr_db == pytest.approx(20 * np.log10(255 / 3))
    assert parity.metric_change == {} and parity.not_finite == ()


def test_no_difference_has_no_psnr_and_changes_no_metric():
    (parity,) = measure_parity(VISIBLE, [_off(lambda v: 0)], PAIRS, extreme_sizes=[])
    assert parity.psnr_db is None and parity.worst_psnr_db is None
    assert parity.mean_error == parity.max_error == 0
    assert parity.metric_change == dict.fromkeys(METRICS, 0)


def test_metrics_are_those_of_the_form_less_those_of_the_reference():
    form = _Function("half", lambda visible, infrared: 0.5 * visible)
    (parity,) = measure_parity(VISIBLE, [form], PAIRS, extreme_sizes=[])
    changes = []
    for _, (visible, infrared) in PAIRS:
        halved = np.rint(0.5 * visible.astype(np.float32)).astype(np.uint8)
        after, before = (
            measure(fused, visible, infrared) for fused in (halved, visible)
        )
        changes.append([after[metric] - before[metric] for metric in METRICS])
    assert list(parity.metric_change) == list(METRICS)
    np.testing.assert_allclose(
        list(parity.metric_change.values()), np.mean(changes, axis=0)
    )
    assert parity.metric_change["SD"] < -10


def test_pairs_and_extremes_that_are_not_finite_are_named():
    def spoilt(visible, infrared):
        bad = infrared.shape == SIZES[0] or infrared.max() == 0
        return np.where(bad, np.float32(np.nan), visible + 1)

    (parity,) = measure_parity(
        VISIBLE, [_Function("spoilt", spoilt)], PAIRS, extreme_sizes=[(50, 60)]
    )
    assert parity.not_finite == ("pair 0", "black 50x60")
    assert parity.mean_error == pytest.approx(1)


def test_a_form_that_is_never_finite_has_infinite_errors():
    form = _Function("bad", lambda visible, infrared: visible + np.float32(np.inf))
    (parity,) = measure_parity(VISIBLE, [form], PAIRS, extreme_sizes=[])
    assert parity.mean_error == parity.max_error == np.inf
    assert parity.psnr_db == parity.worst_psnr_db == -np.inf
    assert parity.metric_change == {}


def test_a_form_of_one_size_is_compared_at_that_size():
    fixed = _Function("fixed", lambda visible, infrared: visible + 1, (44, 60))
    free = _off(lambda visible: 2)
    reference = _Function("visible", lambda visible, infrared: visible)
    one, other = measure_parity(reference, [fixed, free], PAIRS, extreme_sizes=[])
    assert set(fixed.sizes) == {(44, 60)} and set(free.sizes) == set(SIZES)
    assert set(reference.sizes) == {(44, 60), *SIZES}
    assert one.mean_error == pytest.approx(1) and other.mean_error == pytest.approx(2)
    # Extremes too, instead of those of any size.
    assert len(fixed.sizes) == len(PAIRS) + 5


def test_each_pair_is_told_when_it_is_done():
    done = []
    measure_parity(
        VISIBLE,
        [_off(lambda v: 0)],
        PAIRS,
        extreme_sizes=[],
        metrics=False,
        progress=lambda: done.append(1),
    )
    assert len(done) == len(PAIRS)


def test_what_cannot_be_compared_is_one_sentence():
    small, large = (
        _Function(name, lambda visible, infrared: visible, fixed_size=size)
        for name, size in (("small", (48, 64)), ("large", (96, 128)))
    )
    assert common_size(VISIBLE, small) == (48, 64) == common_size(small, VISIBLE)
    assert common_size(VISIBLE, VISIBLE) is None
    with pytest.raises(FusionProxyError, match="small 48x64 and large 96x128"):
        measure_parity(small, [large], PAIRS)
    with pytest.raises(FusionProxyError, match="no pairs"):
        measure_parity(VISIBLE, [VISIBLE], [])
    broken = _Function("broken", lambda visible, infrared: visible * np.nan)
    with pytest.raises(FusionProxyError, match="broken itself gives .* pair 0"):
        measure_parity(broken, [VISIBLE], PAIRS)


def test_psnr_of_one_level_is_that_of_eight_bits():
    assert psnr(1.0) == pytest.approx(48.13, abs=0.01)
    assert psnr(0.0) is None
