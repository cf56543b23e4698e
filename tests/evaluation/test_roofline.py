import dataclasses

import pytest

from fusionproxy_jax.evaluation.accelerator import DevicePeaks
from fusionproxy_jax.evaluation.roofline import roofline

# 100 GFLOP/s and 10 GB/s: both bounds are equal at ten operations a byte.
PEAKS = DevicePeaks(
    gflop_per_second=100.0,
    gigabytes_per_second=10.0,
    dtype="float32",
    matrix_size=8,
    copied_bytes=8,
)


def test_much_arithmetic_on_few_bytes_is_bound_by_compute():
    bounds = roofline(2e9, 1e8, PEAKS)
    assert (bounds.compute_ms, bounds.memory_ms) == pytest.approx((20.0, 10.0))
    assert bounds.bound_by == "compute" and bounds.bound_ms == 20.0
    assert bounds.ceiling == 1.0
    assert bounds.utilisation(80.0) == pytest.approx(0.25)


def test_little_arithmetic_on_many_bytes_is_bound_by_memory():
    bounds = roofline(2e9, 8e8, PEAKS)
    assert bounds.bound_by == "memory" and bounds.bound_ms == pytest.approx(80.0)
    # At the bound the utilisation is the ceiling.
    assert bounds.ceiling == pytest.approx(0.25)
    assert bounds.utilisation(bounds.bound_ms) == pytest.approx(bounds.ceiling)


def test_devices_share_the_work_and_not_the_bound():
    one, four = (roofline(2e9, 8e8, PEAKS, num_devices=num) for num in (1, 4))
    assert four.bound_ms == pytest.approx(one.bound_ms / 4)
    assert four.ceiling == pytest.approx(one.ceiling)


def test_unknown_traffic_leaves_no_ceiling():
    bounds = roofline(2e9, None, PEAKS)
    assert bounds.bound_ms == pytest.approx(20.0)
    assert bounds.ceiling is bounds.bound_by is bounds.memory_ms is None
    assert dataclasses.asdict(bounds) == {"compute_ms": 20.0, "memory_ms": None}
