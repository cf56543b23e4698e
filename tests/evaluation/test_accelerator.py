import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.evaluation.accelerator import (
    ChainedCall,
    DevicePeaks,
    measure_device_peaks,
    measure_on_device,
)

PEAKS = DevicePeaks(
    gflop_per_second=2e-6,
    gigabytes_per_second=4e-6,
    dtype="float32",
    matrix_size=8,
    copied_bytes=8,
)


def _product(side=8):
    return ChainedCall(lambda x, w: x @ w, jnp.eye(side), 2.0 * jnp.eye(side))


def test_each_call_is_fed_the_last_result_in_a_donated_buffer():
    carry = jnp.eye(8)
    call = ChainedCall(lambda x, w: x @ w, carry, 2.0 * jnp.eye(8))
    call.run()
    assert carry.is_deleted()
    call.start()
    call.start()
    call.wait()
    np.testing.assert_array_equal(call._carry, 8.0 * np.eye(8))


def test_rates_are_xlas_counts_over_the_median():
    clock = iter(np.arange(1000.0))  # Every reading is a second after the last one.
    cost = measure_on_device(
        {"product": _product()}, PEAKS, num_rounds=4, clock=lambda: next(clock)
    )["product"]
    assert cost.p50_ms == cost.p95_ms == 1000.0
    # Four calls between two readings.
    assert cost.pipelined_ms == 250.0
    assert cost.flops == 2 * 8**3
    # Both factors are read and the result written, at least.
    assert cost.bytes_accessed >= 3 * 8 * 8 * 4
    assert cost.gflop_per_second == pytest.approx(1024e-9)
    assert cost.share_of_gemm_peak == pytest.approx(1024e-9 / 2e-6)
    gigabytes = cost.bytes_accessed / 1e9
    assert cost.gigabytes_per_second == pytest.approx(gigabytes)
    assert cost.share_of_copy_peak == pytest.approx(gigabytes / 4e-6)
    assert cost.compile_seconds > 0


def test_a_donated_buffer_counts_once_in_the_memory():
    cost = measure_on_device({"product": _product()}, PEAKS, num_rounds=1)["product"]
    # x and w; the result lies in x, but not before x has been read.
    assert 2 * 256 <= cost.peak_memory_bytes <= 3 * 256


class _Uncounted:
    def __init__(self, compiled, counts):
        self._compiled, self._counts = compiled, counts

    def __call__(self, *inputs):
        return self._compiled(*inputs)

    def cost_analysis(self):
        return self._counts

    def memory_analysis(self):
        return None


@pytest.mark.parametrize("counts", [None, {}, [{"flops": -1.0}]])
def test_what_xla_does_not_count_stays_unknown(counts):
    call = _product()
    call.compiled = _Uncounted(call.compiled, counts)
    cost = measure_on_device({"product": call}, PEAKS, num_rounds=1)["product"]
    assert cost.p50_ms > 0
    assert cost.flops is cost.bytes_accessed is cost.peak_memory_bytes is None
    assert cost.gflop_per_second is cost.gigabytes_per_second is None
    assert cost.share_of_gemm_peak is cost.share_of_copy_peak is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_peaks_name_what_was_multiplied_and_copied(dtype):
    peaks = measure_device_peaks(
        dtype, matrix_size=32, copied_bytes=2**16, num_rounds=2
    )
    assert (peaks.dtype, peaks.matrix_size, peaks.copied_bytes) == (dtype, 32, 2**16)
    assert peaks.gflop_per_second > 0 and peaks.gigabytes_per_second > 0
    assert jax.default_backend() == "cpu"
