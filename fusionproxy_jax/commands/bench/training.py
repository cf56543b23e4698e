"""`fusionproxy bench training`: images a second of the distillation step."""

from dataclasses import asdict
from typing import Any

from fusionproxy_jax.config import Config
from fusionproxy_jax.evaluation.accelerator import device_name
from fusionproxy_jax.evaluation.machine import describe_machine
from fusionproxy_jax.training import throughput


def bench_training(
    config: Config, *, num_steps: int
) -> tuple[dict[str, Any], list[str]]:
    """Returns report and line of a training run's speed on noise."""
    rate = throughput.measure_throughput(config, num_steps=num_steps)
    report = {
        "images_per_second": rate,
        "batch_size": config.data.batch_size,
        "crop_px": config.data.crop_px,
        "precision": config.compute_dtype,
        "parallel": config.parallel,
        "student": asdict(config.student),
        "steps": num_steps,
        "jax": device_name(),
        "machine": describe_machine(),
    }
    line = (
        f"{rate:.2f} images/s: batch {config.data.batch_size} of "
        f"{config.data.crop_px}x{config.data.crop_px} px, {config.compute_dtype}, "
        f"{config.parallel}, {report['jax']}"
    )
    return report, [line]
