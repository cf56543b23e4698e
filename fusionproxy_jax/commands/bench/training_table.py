"""What `fusionproxy bench training` prints of its report."""

from typing import Any


def training_table(report: dict[str, Any]) -> list[str]:
    """Returns the lines of a report of `bench_training`."""
    peaks, load = report["device_peaks"], report["machine"]["load_average"]
    side = report["crop_px"]
    lines = [
        f"{report['jax']}, {report['precision']}, {report['parallel']}; batch "
        f"{report['batch_size']} of {side}x{side} px; matrix products reach "
        f"{peaks['gflop_per_second']:.0f} GFLOP/s, copies "
        f"{peaks['gigabytes_per_second']:.0f} GB/s"
        + (f"; load average {load:.1f} before" if load is not None else ""),
        f"{'student':<20}{'images/s':>10}{'p50 ms':>10}{'p95 ms':>10}{'host ms':>9}"
        f"{'GFLOP':>9}{'GFLOP/s':>9}{'MFU':>7}{'ceiling':>9}{'bound by':>10}"
        f"{'MB':>8}{'compile s':>11}",
    ]
    for row in report["rows"]:
        name = row["student"] + (" + panel" if row["backbones"] else "")
        lines.append(
            f"{name:<20}{row['images_per_second']:>10.2f}{row['p50_ms']:>10.2f}"
            f"{row['p95_ms']:>10.2f}{row['dispatch_ms']:>9.2f}"
            f"{row['model_flops']['total'] / 1e9:>9.2f}{row['gflop_per_second']:>9.1f}"
            f"{row['utilisation']:>7.1%}"
            + _cell(row["ceiling"], "9.0%")
            + f"{row['bound_by'] or '':>10}"
            + _cell(row["memory_bytes"] and row["memory_bytes"] / 1e6, "8.0f")
            + f"{row['compile_seconds']:>11.1f}"
        )
    for row in report["rows"]:
        name, pipeline = row["student"], row["input_pipeline"]
        aligned = ""
        if row["backbones"]:
            aligned = (
                f" aligned to {', '.join(row['backbones'])} (they take "
                f"{row['share_of_panel']:.0%} of the step)"
            )
        lines.append(
            f"{name}{aligned}: input pipeline {pipeline['images_per_second']:.0f} "
            f"images/s, {pipeline['times_the_step']:.1f} times what the step takes; "
            f"the step keeps {pipeline['share_kept_when_fed']:.0%} of its rate on it"
        )
        shares = ", ".join(
            f"{part} {share:.1%}" for part, share in row["shares"].items()
        )
        lines.append(f"{name}: of a fed step's time {shares}")
    return lines


def _cell(value: float | None, form: str) -> str:
    """Returns the formatted value; blanks where there is none."""
    return " " * int(form.partition(".")[0]) if value is None else f"{value:>{form}}"
