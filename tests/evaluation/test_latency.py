import pytest

from fusionproxy_jax.evaluation.latency import measure
from fusionproxy_jax.evaluation.machine import describe_machine, measure_gemm_peak


class _Clock:
    """Time that passes only when a candidate spends it."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def spend(self, name, seconds):
        self.calls.append(name)
        self.now += seconds

    def __call__(self):
        return self.now


def test_candidates_take_turns_after_their_warm_up():
    clock = _Clock()
    candidates = {
        name: lambda name=name: clock.spend(name, 0.01) for name in ("a", "b", "c")
    }
    measure(candidates, num_warmup=2, num_rounds=3, clock=clock)
    assert "".join(clock.calls) == "aabbcc" + "abc" + "bca" + "cab"


def test_percentiles_are_of_the_timed_rounds_only():
    clock = _Clock()
    seconds = iter([9.0, 9.0, *[0.010] * 10, *[0.020] * 9, 0.100])
    candidate = {"a": lambda: clock.spend("a", next(seconds))}
    latency = measure(candidate, num_warmup=2, num_rounds=20, clock=clock)["a"]
    assert latency.min_ms == pytest.approx(10.0)
    assert latency.p50_ms == pytest.approx(15.0)
    assert latency.p95_ms == pytest.approx(20.0 + 0.05 * 80.0)
    assert latency.frames_per_second == pytest.approx(1000.0 / 15.0)


def test_the_machine_is_named_with_versions():
    machine = describe_machine()
    assert machine["processor"]
    assert machine["versions"]["numpy"].count(".") == 2


def test_the_peak_says_who_multiplied():
    peak = measure_gemm_peak(threads=1, size=64, num_rounds=2)
    assert peak["gflop_per_second"] > 0
    assert peak["runner"] == "ONNX Runtime, 1 threads"
