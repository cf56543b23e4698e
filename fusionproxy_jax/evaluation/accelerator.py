"""How near a compiled JAX function comes to what its device can do.

Work and traffic of a call are XLA's own counts for the compiled program; the device's
rates of matrix products and of copies are measured beside it. Each call's result takes
the place of its first input (a donated buffer), as in a loop over video frames.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fusionproxy_jax.evaluation.latency import Key, measure_rounds, summarize

PyTree = Any


@dataclass(frozen=True, kw_only=True)
class DevicePeaks:
    """Best rates of one device.

    Attributes:
        gflop_per_second: Of a square matrix product; a multiply-add is two operations.
        gigabytes_per_second: Read and written by a copy.
        dtype: Of the product.
        matrix_size: Of the product.
        copied_bytes: Read and written by one copy.
    """

    gflop_per_second: float
    gigabytes_per_second: float
    dtype: str
    matrix_size: int
    copied_bytes: int


@dataclass(frozen=True, kw_only=True)
class DeviceCost:
    """What one call of a compiled function took.

    Attributes:
        min_ms: Of the rounds, as the next two; each call waited for.
        p50_ms: Median.
        p95_ms: 95th percentile.
        pipelined_ms: Of a call among many that are not waited for one by one.
        flops: XLA's count; None where it gives none, as the next.
        bytes_accessed: XLA's count of what its operations read and write.
        gflop_per_second: Achieved at the median.
        gigabytes_per_second: Achieved at the median.
        share_of_gemm_peak: Of `DevicePeaks`.
        share_of_copy_peak: Of `DevicePeaks`.
        peak_memory_bytes: Arguments, results and working memory, shared ones once.
        compile_seconds: Time to trace and compile.
    """

    min_ms: float
    p50_ms: float
    p95_ms: float
    pipelined_ms: float
    flops: float | None
    bytes_accessed: float | None
    gflop_per_second: float | None
    gigabytes_per_second: float | None
    share_of_gemm_peak: float | None
    share_of_copy_peak: float | None
    peak_memory_bytes: int | None
    compile_seconds: float


def device_name() -> str:
    """Returns number, kind and platform of JAX's devices."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"


class ChainedCall:
    """A function compiled once, fed with its own last result."""

    def __init__(
        self, function: Callable[..., jax.Array], carry: jax.Array, *inputs: PyTree
    ) -> None:
        """Compiles `function(carry, *inputs)`, which returns an array like `carry`.

        `carry` is given away: its buffer holds later results.
        """
        start = time.perf_counter()
        jitted = jax.jit(function, donate_argnums=0)
        self.compiled = jitted.lower(carry, *inputs).compile()
        self.compile_seconds = time.perf_counter() - start
        self._carry = jax.device_put(carry)
        self._inputs = jax.device_put(inputs)

    def start(self) -> None:
        """Sends one call to the device."""
        self._carry = self.compiled(self._carry, *self._inputs)

    def wait(self) -> None:
        """Returns when all calls sent are done."""
        jax.block_until_ready(self._carry)

    def run(self) -> None:
        """Runs one call to its end."""
        self.start()
        self.wait()


def measure_device_peaks(
    dtype: str,
    *,
    matrix_size: int | None = None,
    copied_bytes: int | None = None,
    num_rounds: int = 8,
) -> DevicePeaks:
    """Returns the best rates of JAX's default device.

    Args:
        dtype: Of the product.
        matrix_size: By default large enough to keep a processor or an accelerator busy.
        copied_bytes: By default more than its caches hold.
        num_rounds: Timed calls of each.
    """
    is_cpu = jax.default_backend() == "cpu"
    matrix_size = matrix_size or (2048 if is_cpu else 8192)
    copied_bytes = copied_bytes or (2**28 if is_cpu else 2**30)
    shape = (matrix_size, matrix_size)
    matrix = jax.random.normal(jax.random.key(0), shape, jnp.dtype(dtype))
    # In place: fresh memory would add the time the system takes to hand it out.
    copy = ChainedCall(jnp.negative, jnp.ones(copied_bytes // 8, jnp.float32))
    product = jax.jit(lambda x: x @ x)
    rounds = measure_rounds(
        {
            "product": lambda: jax.block_until_ready(product(matrix)),
            "copy": copy.run,
        },
        num_warmup=2,
        num_rounds=num_rounds,
    )
    return DevicePeaks(
        gflop_per_second=2.0 * matrix_size**3 / min(rounds["product"]) / 1e6,
        gigabytes_per_second=copied_bytes / min(rounds["copy"]) / 1e6,
        dtype=dtype,
        matrix_size=matrix_size,
        copied_bytes=copied_bytes,
    )


def measure_on_device(
    calls: Mapping[Key, ChainedCall],
    peaks: DevicePeaks,
    *,
    num_warmup: int = 3,
    num_rounds: int = 20,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, DeviceCost]:
    """Returns what each call took, all taking turns, and how near it is to `peaks`."""
    rounds = measure_rounds(
        {name: call.run for name, call in calls.items()},
        num_warmup=num_warmup,
        num_rounds=num_rounds,
        seed=seed,
        clock=clock,
    )
    costs = {}
    for name, call in calls.items():
        latency = summarize(rounds[name])
        flops, bytes_accessed = xla_counts(call.compiled)
        gflops = flops and flops / latency.p50_ms / 1e6
        gigabytes = bytes_accessed and bytes_accessed / latency.p50_ms / 1e6
        costs[name] = DeviceCost(
            min_ms=latency.min_ms,
            p50_ms=latency.p50_ms,
            p95_ms=latency.p95_ms,
            pipelined_ms=_pipelined_ms(call, num_rounds, clock),
            flops=flops,
            bytes_accessed=bytes_accessed,
            gflop_per_second=gflops,
            gigabytes_per_second=gigabytes,
            share_of_gemm_peak=gflops and gflops / peaks.gflop_per_second,
            share_of_copy_peak=gigabytes and gigabytes / peaks.gigabytes_per_second,
            peak_memory_bytes=memory_bytes(call.compiled),
            compile_seconds=call.compile_seconds,
        )
    return costs


def _pipelined_ms(
    call: ChainedCall, num_calls: int, clock: Callable[[], float]
) -> float:
    start = clock()
    for _ in range(num_calls):
        call.start()
    call.wait()
    return 1000.0 * (clock() - start) / num_calls


def xla_counts(compiled: jax.stages.Compiled) -> tuple[float | None, float | None]:
    """Returns operations and bytes of one call; None where XLA does not count.

    The body of a loop counts once, however often it runs.
    """
    analysis = compiled.cost_analysis() or {}
    # Older JAX gives one dictionary per partition.
    counts = analysis[0] if isinstance(analysis, list) else analysis
    # What it could not count it gives as -1 or leaves out.
    flops, traffic = (counts.get(key, 0) for key in ("flops", "bytes accessed"))
    return (flops if flops > 0 else None), (traffic if traffic > 0 else None)


def memory_bytes(compiled: jax.stages.Compiled) -> int | None:
    """Returns what a call holds, donated buffers once; None where XLA does not say."""
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
