import pytest

from fusionproxy_jax.evaluation.latency import measure, measure_rounds, median_ratio


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

    def candidates(self, names):
        return {name: lambda name=name: self.spend(name, 0.01) for name in names}


def test_every_round_calls_each_candidate_once_after_its_warm_up():
    clock = _Clock()
    measure(clock.candidates("abcd"), num_warmup=2, num_rounds=30, clock=clock)
    assert "".join(clock.calls[:8]) == "aabbccdd"
    rounds = ["".join(clock.calls[i : i + 4]) for i in range(8, len(clock.calls), 4)]
    assert len(rounds) == 30 and {"".join(sorted(r)) for r in rounds} == {"abcd"}
    # None always runs first, none always after the same neighbour.
    assert {r[0] for r in rounds} == set("abcd")
    assert len(set(rounds)) > 12


def test_the_seed_alone_decides_the_order():
    def order(seed):
        clock = _Clock()
        measure(clock.candidates("abc"), num_rounds=9, seed=seed, clock=clock)
        return clock.calls

    assert order(1) == order(1) != order(2)


def test_percentiles_are_of_the_timed_rounds_only():
    clock = _Clock()
    seconds = iter([9.0, 9.0, *[0.010] * 10, *[0.020] * 9, 0.100])
    candidate = {"a": lambda: clock.spend("a", next(seconds))}
    latency = measure(candidate, num_warmup=2, num_rounds=20, clock=clock)["a"]
    assert latency.min_ms == pytest.approx(10.0)
    assert latency.p50_ms == pytest.approx(15.0)
    assert latency.p95_ms == pytest.approx(20.0 + 0.05 * 80.0)
    assert latency.frames_per_second == pytest.approx(1000.0 / 15.0)


def test_a_ratio_survives_a_machine_that_slows_down():
    clock = _Clock()
    # Nine of ten rounds are slower than the one before; b always takes twice a's time.
    slowness = {"a": iter(range(1, 11)), "b": iter(range(1, 11))}
    rounds = measure_rounds(
        {
            "a": lambda: clock.spend("a", 0.001 * next(slowness["a"])),
            "b": lambda: clock.spend("b", 0.002 * next(slowness["b"])),
        },
        num_warmup=0,
        num_rounds=10,
        clock=clock,
    )
    assert median_ratio(rounds["b"], rounds["a"]) == pytest.approx(2.0)
    assert median_ratio(rounds["a"], rounds["a"]) == 1.0
    # One round in which only b was disturbed does not change it.
    disturbed = [500.0, *rounds["b"][1:]]
    assert median_ratio(disturbed, rounds["a"]) == pytest.approx(2.0)
