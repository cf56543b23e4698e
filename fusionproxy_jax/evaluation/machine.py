"""What a timing was taken on: processor, versions, measured peak of matrix products."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

_PACKAGES = (
    "fusionproxy-jax",
    "numpy",
    "onnxruntime",
    "openvino",
    "jax",
    "jaxlib",
    "flax",
)


def processor_name() -> str:
    """Returns the processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def load_average() -> float | None:
    """Returns how many threads wanted to run over the last minute; None if unknown.

    Before a measurement, more than a fraction of one says that others ran beside it.
    """
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe_machine() -> dict[str, object]:
    """Returns processor, threads, load, system and package versions."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "processor": processor_name(),
        "hardware_threads": os.cpu_count(),
        "load_average": load_average(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": versions,
    }


def _product(size: int, threads: int) -> tuple[str, Callable[[], object]]:
    """Returns who multiplies two square matrices, and a call that does it."""
    matrix = np.random.default_rng(0).random((size, size), np.float32)
    try:
        import onnx
    except ImportError:
        return "NumPy, all its threads", lambda: matrix @ matrix
    import onnxruntime

    given, result = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (size, size))
        for name in "xy"
    )
    node = onnx.helper.make_node("MatMul", ["x", "x"], ["y"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "peak", [given], [result]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return f"ONNX Runtime, {threads} threads", lambda: session.run(None, {"x": matrix})


def measure_gemm_peak(
    *, threads: int, size: int = 2048, num_rounds: int = 8
) -> dict[str, object]:
    """Returns the best float32 rate of a square matrix product, in GFLOP/s.

    A multiply-add is two operations. The product runs in ONNX Runtime where `onnx` is
    there to write it, in NumPy elsewhere; the result says which.
    """
    runner, multiply = _product(size, threads)
    seconds = []
    for _ in range(num_rounds):
        start = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - start)
    return {
        "gflop_per_second": 2.0 * size**3 / min(seconds) / 1e9,
        "matrix_size": size,
        "runner": runner,
    }
