"""`fusionproxy bench teachers`: what drawing samples costs, part by part."""

from dataclasses import asdict
from typing import Any

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.evaluation.accelerator import device_name
from fusionproxy_jax.evaluation.machine import describe_machine
from fusionproxy_jax.teachers.cost import device_peak_gflops, measure_teachers


def bench_teachers(
    config: TeacherConfig,
    *,
    size: tuple[int, int] | None,
    num_images: int,
    num_rounds: int,
) -> tuple[dict[str, Any], list[str]]:
    """Returns report and table of the teachers of `config`.

    Args:
        config: Teachers and their settings.
        size: Height and width; a tile by default.
        num_images: Images whose samples are drawn at once.
        num_rounds: Timed calls of each part.
    """
    height, width = size or (config.tile_px, config.tile_px)
    costs = measure_teachers(
        config, height=height, width=width, num_images=num_images, rounds=num_rounds
    )
    report = {
        "size": f"{height}x{width}",
        "samples": config.num_samples,
        "images_at_once": num_images,
        "precision": config.compute_dtype,
        "device_peak_gflops": device_peak_gflops(),
        "jax": device_name(),
        "machine": describe_machine(),
        "parts": [asdict(cost) for cost in costs],
    }
    return report, _table(report)


def _table(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{report['machine']['processor']}, {report['jax']}, {report['size']}, "
        f"{report['samples']} samples, {report['precision']}; matrix products reach "
        f"{report['device_peak_gflops']:.0f} GFLOP/s",
        f"{'teacher':<14}{'part':<42}{'calls':>6}{'p50 ms':>10}{'G mult-adds':>13}"
        f"{'of peak':>9}{'MB':>8}{'compile s':>11}",
    ]
    for part in report["parts"]:
        rate = 2.0 * part["multiply_adds"] / part["p50_ms"] / 1e6
        share = rate / report["device_peak_gflops"]
        lines.append(
            f"{part['teacher']:<14}{part['part']:<42}{part['calls']:>6}"
            f"{part['p50_ms']:>10.1f}{part['multiply_adds'] / 1e9:>13.2f}"
            f"{share:>9.0%}{part['temporary_bytes'] / 1e6:>8.0f}"
            f"{part['compile_seconds']:>11.1f}"
        )
    return lines
