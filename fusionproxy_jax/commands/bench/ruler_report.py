"""The report of the ruler: what it was measured on, its rows, and the table."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from fusionproxy_jax.evaluation.candidates import Candidate, GraphFile
from fusionproxy_jax.evaluation.image_graph import Size
from fusionproxy_jax.evaluation.machine import describe_machine, measure_gemm_peak
from fusionproxy_jax.evaluation.ruler import Row, format_size, measure_candidates
from fusionproxy_jax.evaluation.runners import RunnerOptions, Runtime


def measured_report(
    candidates: Sequence[Candidate],
    *,
    sizes: Sequence[Size],
    runtimes: Sequence[Runtime],
    options: RunnerOptions,
    num_warmup: int,
    num_rounds: int,
    seed: int,
    memory: bool,
) -> tuple[dict[str, Any], tuple[Row, ...]]:
    """Returns a report without rows, and the rows."""
    # First: it names the load that others put on the machine.
    machine = describe_machine()
    before = measure_gemm_peak(threads=options.threads)
    measurement = measure_candidates(
        candidates,
        sizes=sizes,
        num_warmup=num_warmup,
        num_rounds=num_rounds,
        seed=seed,
        memory=memory,
        gflop_per_second=before["gflop_per_second"],
    )
    after = measure_gemm_peak(threads=options.threads)
    # Others may have kept one of the two from the peak.
    peak = max(before, after, key=operator.itemgetter("gflop_per_second"))
    lowered = before["gflop_per_second"] / peak["gflop_per_second"]
    rows = tuple(
        row
        if row.share_of_gemm_peak is None
        else replace(row, share_of_gemm_peak=lowered * row.share_of_gemm_peak)
        for row in measurement.rows
    )
    report = {
        "sizes": [format_size(size) for size in sizes],
        "batch_size": 1,
        "images": "noise",
        "runtimes": list(runtimes),
        "options": asdict(options),
        "rounds": num_rounds,
        "warmup": num_warmup,
        "order_seed": seed,
        "gemm_peak": peak,
        "machine": machine,
        "candidates": {
            candidate.name: _description(candidate) for candidate in candidates
        },
        "notes": list(measurement.notes),
    }
    return report, rows


def _description(candidate: Candidate) -> dict[str, Any]:
    if not isinstance(candidate, GraphFile):
        return {"inputs": None}
    return {
        "file": candidate.path.name,
        "runtime": candidate.runtime,
        "inputs": [str(image) for image in candidate.graph.inputs],
        "output": candidate.graph.output,
    }


def table(report: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Returns the lines of the table, headed by the machine."""
    peak, machine = report["gemm_peak"], report["machine"]
    load = machine["load_average"]
    width = max(len("candidate"), *(len(row.candidate) for row in rows)) + 2
    return [
        f"{machine['processor']}, {report['options']['threads']} threads, batch 1; "
        f"matrix products reach {peak['gflop_per_second']:.0f} GFLOP/s "
        f"({peak['runner']})"
        + (f"; load average {load:.1f} before" if load is not None else ""),
        f"{'size':<10}{'candidate':<{width}}{'timed':<12}{'p50 ms':>9}{'p95 ms':>9}"
        f"{'frames/s':>10}{'x first':>9}{'M params':>10}{'G mult-adds':>13}"
        f"{'of peak':>9}{'MB':>8}",
        *(_line(row, width) for row in rows),
        *report["notes"],
    ]


def _line(row: Row, width: int) -> str:
    cells = [
        (row.ratio, "9.2f", 1.0),
        (row.parameters, "10.2f", 1e6),
        (row.multiply_adds, "13.2f", 1e9),
        (row.share_of_gemm_peak, "9.0%", 1.0),
        (row.peak_memory_bytes, "8.0f", 1e6),
    ]
    return (
        f"{row.size:<10}{row.candidate:<{width}}{row.timed:<12}{row.p50_ms:>9.1f}"
        f"{row.p95_ms:>9.1f}{row.frames_per_second:>10.1f}"
        + "".join(
            # What is not known stays empty.
            f"{value / unit:>{form}}"
            if value is not None
            else " " * int(form.partition(".")[0])
            for value, form, unit in cells
        )
    ).rstrip()
