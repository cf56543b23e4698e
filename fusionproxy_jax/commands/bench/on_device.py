"""`fusionproxy bench latency --jax`: students on JAX's device, against its peaks."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fusionproxy_jax.commands.bench.jax_student import JaxStudent
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.accelerator import (
    ChainedCall,
    device_name,
    measure_device_peaks,
    measure_on_device,
)
from fusionproxy_jax.evaluation.image_graph import Size
from fusionproxy_jax.evaluation.machine import describe_machine
from fusionproxy_jax.evaluation.ruler import format_size
from fusionproxy_jax.evaluation.runners import first_line
from fusionproxy_jax.runtime.fuser import WEIGHTS


def bench_on_device(
    students: Sequence[str],
    *,
    sizes: Sequence[Size],
    batch_sizes: Sequence[int],
    dtype: str,
    num_warmup: int,
    num_rounds: int,
    seed: int,
) -> tuple[dict[str, Any], list[str]]:
    """Returns report and table of students given by name or by their weights.

    Args:
        students: The ones timed in turns.
        sizes: Height and width of the pairs; each size is a group of its own.
        batch_sizes: Pairs fused at once.
        dtype: Of the computation.
        num_warmup: Untimed calls of each.
        num_rounds: Timed calls of each.
        seed: Of the order within the rounds.

    Raises:
        FusionProxyError: A file is missing or no student's, or none fits the device.
    """
    machine = describe_machine()
    opened = [JaxStudent(path.stem, path, dtype=dtype) for path in map(_path, students)]
    if len({student.name for student in opened}) < len(opened):
        raise FusionProxyError(
            f"two of the students {', '.join(students)} have the same name; give each "
            "once, and rename files of one name"
        )
    peaks = measure_device_peaks(dtype)
    rows, notes = [], []
    for size in sizes:
        calls = {}
        for student in opened:
            for batch_size in batch_sizes:
                try:
                    calls[student, batch_size] = _call(student, size, batch_size)
                except jax.errors.JaxRuntimeError as error:
                    notes.append(
                        f"{student.name} is left out at {format_size(size)}, batch "
                        f"{batch_size}: {first_line(error)}"
                    )
        costs = measure_on_device(
            calls, peaks, num_warmup=num_warmup, num_rounds=num_rounds, seed=seed
        )
        for (student, batch_size), cost in costs.items():
            counted = student.cost(*size)
            rows.append(
                {
                    "student": student.name,
                    "size": format_size(size),
                    "batch_size": batch_size,
                    **asdict(cost),
                    "frames_per_second": 1e3 * batch_size / cost.p50_ms,
                    "pipelined_frames_per_second": 1e3 * batch_size / cost.pipelined_ms,
                    "parameters": counted.parameters,
                    "multiply_adds": counted.multiply_adds * batch_size,
                }
            )
    if not rows:
        raise FusionProxyError(f"nothing was measured: {notes[0]}")
    report = {
        "dtype": dtype,
        "parameters_and_images": "float32",
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "rounds": num_rounds,
        "warmup": num_warmup,
        "order_seed": seed,
        "jax": device_name(),
        "device_peaks": asdict(peaks),
        "machine": machine,
        "rows": rows,
        "notes": notes,
    }
    return report, _table(report)


def _path(text: str) -> Path:
    path = Path(text)
    return path if path.suffix == ".safetensors" else WEIGHTS / f"{text}.safetensors"


def _call(student: JaxStudent, size: Size, batch_size: int) -> ChainedCall:
    """Returns the student compiled for images of this size, after one call."""
    generator = np.random.default_rng(0)
    visible, infrared = (
        generator.random((batch_size, *size, channels), np.float32)
        for channels in (3, 1)
    )
    call = ChainedCall(student.fuse, jax.device_put(visible), student.params, infrared)
    call.run()
    return call


def _table(report: dict[str, Any]) -> list[str]:
    peaks, load = report["device_peaks"], report["machine"]["load_average"]
    lines = [
        f"{report['jax']}, {report['dtype']}; matrix products reach "
        f"{peaks['gflop_per_second']:.0f} GFLOP/s, copies "
        f"{peaks['gigabytes_per_second']:.0f} GB/s"
        + (f"; load average {load:.1f} before" if load is not None else ""),
        f"{'size':<10}{'student':<12}{'batch':>6}{'p50 ms':>10}{'p95 ms':>10}"
        f"{'frames/s':>10}{'pipelined':>11}{'GFLOP/s':>10}{'of peak':>9}{'GB/s':>8}"
        f"{'of peak':>9}{'MB':>8}{'compile s':>11}",
    ]
    for row in report["rows"]:
        cells = [
            (row["gflop_per_second"], "10.1f", 1.0),
            (row["share_of_gemm_peak"], "9.0%", 1.0),
            (row["gigabytes_per_second"], "8.1f", 1.0),
            (row["share_of_copy_peak"], "9.0%", 1.0),
            (row["peak_memory_bytes"], "8.0f", 1e6),
        ]
        lines.append(
            f"{row['size']:<10}{row['student']:<12}{row['batch_size']:>6}"
            f"{row['p50_ms']:>10.2f}{row['p95_ms']:>10.2f}"
            f"{row['frames_per_second']:>10.1f}"
            f"{row['pipelined_frames_per_second']:>11.1f}"
            + "".join(
                f"{value / unit:>{form}}"
                if value is not None
                else " " * int(form.partition(".")[0])
                for value, form, unit in cells
            )
            + f"{row['compile_seconds']:>11.1f}"
        )
    return [*lines, *report["notes"]]
