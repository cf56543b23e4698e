import itertools

import pytest

from fusionproxy_jax.training.throughput import measure_loader, measure_steps


class Clock:
    """Seconds that pass only when somebody works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class SlowStep:
    """A step of a known length; half of it is the host's when it is waited for."""

    batch = "held"

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.dispatch_ms, self.seen = clock, seconds, [], []

    def run(self):
        self.seen.append("waited for")
        self.clock.now += self.seconds
        self.dispatch_ms.append(500 * self.seconds)

    def run_ahead(self, batches, num_steps):
        for batch in itertools.islice(batches, num_steps):
            self.seen.append(batch)
            self.clock.now += self.seconds / 2


def slow_loader(clock, seconds):
    while True:
        clock.now += seconds
        yield "loaded"


def test_steps_are_timed_alone_in_a_row_and_fed():
    clock = Clock()
    steps = {"slow": SlowStep(clock, 0.4), "fast": SlowStep(clock, 0.2)}
    loaders = {name: slow_loader(clock, 0.1) for name in steps}
    speeds = measure_steps(steps, loaders, num_steps=20, num_warmup=1, clock=clock)
    for name, milliseconds in (("slow", 400), ("fast", 200)):
        speed = speeds[name]
        waited = (speed.min_ms, speed.p50_ms, speed.p95_ms)
        assert waited == pytest.approx((milliseconds,) * 3)
        assert speed.dispatch_ms == pytest.approx(milliseconds / 2)
        assert speed.ahead_ms == pytest.approx(milliseconds / 2)
        assert speed.fed_ms == pytest.approx(milliseconds / 2 + 100)
        seen = steps[name].seen
        assert seen.count("waited for") == 21
        assert seen.count("held") == seen.count("loaded") == 20


def test_what_a_loader_has_ready_is_not_counted():
    clock = Clock()

    def batches():
        yield from range(4)
        yield from slow_loader(clock, 0.25)

    assert measure_loader(batches(), num_batches=6, clock=clock) == pytest.approx(250)
