import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.onnx_complexity import GraphCost
from fusionproxy_jax.evaluation.ruler import TABLE_3_SIZES, measure_candidates


class _Clock:
    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now


class _Candidate:
    """Takes a number of milliseconds per row of the image, twice it end to end."""

    def __init__(self, name, clock, ms_per_row, **facts):
        self.name = name
        self.fixed_size = facts.get("fixed_size")
        self.shares_gemm_peak = facts.get("shares_gemm_peak", True)
        self._clock, self._ms_per_row, self._facts = clock, ms_per_row, facts

    def calls(self, visible, infrared):
        assert visible.shape == (*infrared.shape, 3)
        if visible.shape[0] in self._facts.get("refuses", ()):
            raise FusionProxyError("it is full")

        def spend(times):
            self._clock.calls.append((self.name, times))
            self._clock.now += times * self._ms_per_row * visible.shape[0] / 1000

        return {"network": lambda: spend(1), "end to end": lambda: spend(2)}

    def cost(self, height, width):
        if "cost" not in self._facts:
            raise FusionProxyError("onnx is missing")
        return self._facts["cost"]

    def peak_memory(self, height, width):
        return {"network": 10 * height, "end to end": 20 * height}


def _measure(candidates, clock, **options):
    options = {"sizes": [(20, 30)], "num_rounds": 4, "clock": clock} | options
    return measure_candidates(candidates, **options)


def test_the_papers_resolutions_are_the_default():
    assert TABLE_3_SIZES == ((480, 640), (768, 1024))


def test_a_row_holds_times_ratio_cost_share_and_memory():
    clock, cost = _Clock(), GraphCost(7, 5_000_000, "float16")
    first = _Candidate("first", clock, 1.0, cost=cost)
    second = _Candidate("second", clock, 3.0, cost=cost, shares_gemm_peak=False)
    measured = _measure([first, second], clock, gflop_per_second=4.0)
    assert measured.notes == ()
    rows = {(row.candidate, row.timed): row for row in measured.rows}
    assert list(rows) == [
        ("first", "network"),
        ("first", "end to end"),
        ("second", "network"),
        ("second", "end to end"),
    ]
    assert {row.size for row in measured.rows} == {"20x30"}
    row = rows["second", "end to end"]
    assert row.p50_ms == pytest.approx(120.0) and row.p95_ms == pytest.approx(120.0)
    assert row.frames_per_second == pytest.approx(1000 / 120)
    assert row.ratio == pytest.approx(3.0)
    assert rows["first", "end to end"].ratio == 1.0
    assert (row.parameters, row.multiply_adds, row.weights) == (7, 5_000_000, "float16")
    assert row.peak_memory_bytes == 400 and rows["first", "network"].ratio == 1.0
    # 2 x 5 M operations in 20 ms are 0.5 GFLOP/s.
    assert rows["first", "network"].share_of_gemm_peak == pytest.approx(0.5 / 4.0)
    # Not of a way that does more than the network, nor beside another device's peak.
    assert row.share_of_gemm_peak is None
    assert rows["first", "end to end"].share_of_gemm_peak is None
    assert rows["second", "network"].share_of_gemm_peak is None


def test_all_candidates_and_ways_take_turns_in_every_round():
    clock = _Clock()
    pair = [_Candidate(name, clock, 1.0) for name in ("a", "b")]
    _measure(pair, clock, num_warmup=0, num_rounds=5)
    ways = {(name, times) for name in ("a", "b") for times in (1, 2)}
    assert len(clock.calls) == 4 * 5
    rounds = [clock.calls[i : i + 4] for i in range(0, 20, 4)]
    assert all(set(calls) == ways for calls in rounds)
    assert len({tuple(calls) for calls in rounds}) > 1


def test_a_fixed_size_is_a_group_of_its_own_and_is_told():
    clock = _Clock()
    free = _Candidate("free", clock, 1.0)
    fixed = _Candidate("fixed", clock, 1.0, fixed_size=(12, 16))
    measured = _measure([fixed, free], clock, sizes=[(20, 30), (40, 60)])
    assert [(row.size, row.candidate) for row in measured.rows[::2]] == [
        ("20x30", "free"),
        ("40x60", "free"),
        ("12x16", "fixed"),
        ("12x16", "free"),
    ]
    ratios = {(row.size, row.candidate): row.ratio for row in measured.rows}
    assert ratios["20x30", "free"] is None
    assert ratios["12x16", "free"] == pytest.approx(1.0)
    told = [note for note in measured.notes if note.startswith("fixed takes")]
    assert told == ["fixed takes 12x16 only and is timed at that size"]


def test_a_fixed_size_that_was_asked_for_is_no_note():
    clock = _Clock()
    fixed = _Candidate("fixed", clock, 1.0, fixed_size=(20, 30), cost=None)
    assert _measure([fixed], clock).notes == ()


def test_what_is_unknown_is_left_empty_and_told_once():
    clock = _Clock()
    measured = _measure(
        [_Candidate("a", clock, 1.0)],
        clock,
        sizes=[(20, 30), (40, 60)],
        memory=False,
        gflop_per_second=4.0,
    )
    assert measured.notes == ("onnx is missing",)
    for row in measured.rows:
        assert row.parameters is row.multiply_adds is row.share_of_gemm_peak is None
        assert row.peak_memory_bytes is None


def test_a_refused_size_is_left_out_with_its_reason():
    clock = _Clock()
    picky = _Candidate("picky", clock, 1.0, refuses=(40,), cost=None)
    free = _Candidate("free", clock, 1.0, cost=None)
    measured = _measure([free, picky], clock, sizes=[(20, 30), (40, 60)])
    assert measured.notes == ("picky is left out at 40x60: it is full",)
    assert {row.size for row in measured.rows if row.candidate == "picky"} == {"20x30"}
    with pytest.raises(FusionProxyError, match="nothing was measured: picky.*full"):
        _measure([picky], clock, sizes=[(40, 60)])


def test_candidates_without_a_name_of_their_own_are_refused():
    clock = _Clock()
    for candidates in ([], [_Candidate("a", clock, 1.0)] * 2):
        with pytest.raises(FusionProxyError, match="at least one, each with a name of"):
            _measure(candidates, clock)


def test_images_are_the_same_for_everyone():
    clock, seen = _Clock(), []

    class Watching(_Candidate):
        def calls(self, visible, infrared):
            seen.append((visible.copy(), infrared.copy()))
            return super().calls(visible, infrared)

    _measure([Watching(name, clock, 1.0) for name in "ab"], clock)
    (visible, infrared), other = seen
    assert visible.dtype == infrared.dtype == np.uint8
    np.testing.assert_array_equal(visible, other[0])
    np.testing.assert_array_equal(infrared, other[1])
