"""`fusionproxy bench training`: images a second of the distillation step."""

from dataclasses import asdict
from typing import Any

from fusionproxy_jax.config import Config
from fusionproxy_jax.evaluation.accelerator import device_name
from fusionproxy_jax.evaluation.machine import describe_machine
from fusionproxy_jax.panel.registry import load_backbones
from fusionproxy_jax.training import throughput
from fusionproxy_jax.training.panel_features import unscaled_panel_features


def bench_training(
    config: Config, *, num_steps: int
) -> tuple[dict[str, Any], list[str]]:
    """Returns report and lines of a training run's speed on noise.

    With a panel the step is timed with and without it, one after the other.
    """
    panel = unscaled_panel_features(
        load_backbones(config.panel.backbones, dtype=config.compute_dtype),
        side_px=config.data.crop_px,
    )
    rate = throughput.measure_throughput(config, num_steps=num_steps)
    report = {
        "images_per_second": rate,
        "batch_size": config.data.batch_size,
        "crop_px": config.data.crop_px,
        "precision": config.compute_dtype,
        "parallel": config.parallel,
        "student": asdict(config.student),
        "steps": num_steps,
        "panel": None,
        "jax": device_name(),
        "machine": describe_machine(),
    }
    lines = [
        f"{rate:.2f} images/s: batch {config.data.batch_size} of "
        f"{config.data.crop_px}x{config.data.crop_px} px, {config.compute_dtype}, "
        f"{config.parallel}, {report['jax']}"
    ]
    if panel is not None:
        with_panel = throughput.measure_throughput(
            config, num_steps=num_steps, panel=panel
        )
        share = 1.0 - with_panel / rate
        report["panel"] = {
            "backbones": list(panel.backbones),
            "images_per_second": with_panel,
            "share_of_step": share,
        }
        lines.append(
            f"{with_panel:.2f} images/s aligned to {', '.join(panel.backbones)}, which "
            f"take {share:.0%} of the step"
        )
    return report, lines
