"""`fusionproxy bench training`: distillation steps against what the device can do."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from fusionproxy_jax.commands.bench.depthwise import bench_depthwise
from fusionproxy_jax.commands.bench.population import bench_population
from fusionproxy_jax.commands.bench.training_table import training_table
from fusionproxy_jax.config import Config
from fusionproxy_jax.evaluation.accelerator import (
    DevicePeaks,
    device_name,
    measure_device_peaks,
)
from fusionproxy_jax.evaluation.latency import measure_rounds, summarize
from fusionproxy_jax.evaluation.machine import describe_machine
from fusionproxy_jax.evaluation.roofline import roofline
from fusionproxy_jax.models.variants import STUDENTS, student_config
from fusionproxy_jax.panel.registry import load_backbones
from fusionproxy_jax.training.model_flops import model_flops
from fusionproxy_jax.training.noise import noise_batches
from fusionproxy_jax.training.panel_features import (
    PanelFeatures,
    unscaled_panel_features,
)
from fusionproxy_jax.training.throughput import (
    StepSpeed,
    measure_loader,
    measure_steps,
)
from fusionproxy_jax.training.timed_step import TimedStep
from fusionproxy_jax.training.timed_update import TimedUpdate


def bench_training(
    config: Config,
    *,
    num_steps: int,
    students: Sequence[str] = (),
    depthwise: bool = False,
    num_members: int | None = None,
    members_at_once: Sequence[int] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Returns report and lines of a training run's speed on noise.

    With a panel the steps are timed with and without it, side by side.

    Args:
        config: The run.
        num_steps: Timed steps of each kind.
        students: Names of those that train in place of the configured one.
        depthwise: Also times the forms of the students' depthwise convolutions.
        num_members: Also times a population of so many of the first student.
        members_at_once: How many of them a device steps at once; 1 and all by default.

    Raises:
        FusionProxyError: A student is unknown or does not fit the crops, or the panel
            cannot be loaded.
    """
    configs = _configs(config, students)
    panel = unscaled_panel_features(
        load_backbones(config.panel.backbones, dtype=config.compute_dtype),
        side_px=config.data.crop_px,
    )
    machine = describe_machine()
    panels = {False: None} if panel is None else {False: None, True: panel}
    # Student, and whether it is aligned to the panel.
    cases = [(name, aligned) for name in configs for aligned in panels]
    steps = {
        (name, aligned): TimedStep(configs[name], panel=panels[aligned])
        for name, aligned in cases
    }
    peaks = measure_device_peaks(config.compute_dtype)
    with contextlib.ExitStack() as stack:
        loaders = {
            aligned: stack.enter_context(noise_batches(config, panels[aligned]))
            for aligned in panels
        }
        loader_ms = {
            aligned: measure_loader(loader, num_batches=num_steps)
            for aligned, loader in loaders.items()
        }
        speeds = measure_steps(
            steps,
            {(name, aligned): loaders[aligned] for name, aligned in cases},
            num_steps=num_steps,
        )
    update_ms = _update_ms(configs, num_steps=num_steps)
    rows = []
    for name, aligned in cases:
        speed = speeds[name, aligned]
        row = _row(
            configs[name],
            panels[aligned],
            step=steps[name, aligned],
            speed=speed,
            loader_ms=loader_ms[aligned],
            peaks=peaks,
        )
        shares = step_shares(
            fed_ms=speed.fed_ms,
            ahead_ms=speed.ahead_ms,
            without_panel_ms=speeds[name, False].ahead_ms,
            update_ms=update_ms[name],
        )
        panel_share = 1.0 - speeds[name, False].ahead_ms / speed.ahead_ms
        rows.append(
            {"student": name, **row, "share_of_panel": panel_share, "shares": shares}
        )
    report = {
        "batch_size": config.data.batch_size,
        "crop_px": config.data.crop_px,
        "precision": config.compute_dtype,
        "parallel": config.parallel,
        "students": {
            name: dataclasses.asdict(own.student) for name, own in configs.items()
        },
        "steps": num_steps,
        "jax": device_name(),
        "device_peaks": dataclasses.asdict(peaks),
        "machine": machine,
        "rows": rows,
    }
    lines = training_table(report)
    if depthwise:
        report["depthwise"], more = bench_depthwise(
            {name: own.student for name, own in configs.items()},
            batch_size=config.data.batch_size,
            side_px=config.data.crop_px,
            dtype=config.compute_dtype,
            num_rounds=num_steps,
        )
        lines += ["", *more]
    if num_members is not None:
        report["population"], more = bench_population(
            next(iter(configs.values())),
            panel,
            num_members=num_members,
            at_once=members_at_once or (1, num_members),
            num_rounds=num_steps,
        )
        lines += ["", *more]
    return report, lines


def step_shares(
    *, fed_ms: float, ahead_ms: float, without_panel_ms: float, update_ms: float
) -> dict[str, float]:
    """Returns where a fed step's time goes, in shares of it that sum to one.

    `input` is what the step waits for its batch, `panel` what alignment adds, and
    `student` what is left: the student both ways, and the other losses. Differences of
    times that noise makes negative count as none.
    """
    whole = max(fed_ms, ahead_ms)
    parts = {
        "input": whole - ahead_ms,
        "panel": max(ahead_ms - without_panel_ms, 0.0),
        "optimiser": update_ms,
    }
    shares = {name: value / whole for name, value in parts.items()}
    return {**shares, "student": 1.0 - sum(shares.values())}


def _update_ms(configs: dict[str, Config], *, num_steps: int) -> dict[str, float]:
    rounds = measure_rounds(
        {name: TimedUpdate(config).run for name, config in configs.items()},
        num_warmup=2,
        num_rounds=num_steps,
        seed=0,
    )
    return {name: summarize(times).p50_ms for name, times in rounds.items()}


def _row(
    config: Config,
    panel: PanelFeatures | None,
    *,
    step: TimedStep,
    speed: StepSpeed,
    loader_ms: float,
    peaks: DevicePeaks,
) -> dict[str, Any]:
    """Returns what is known of one step; rates are of steps in a row."""
    num_images, flops = config.data.batch_size, model_flops(config, panel)
    bounds = roofline(
        flops.total,
        step.bytes_accessed,
        peaks,
        # What XLA calls devices of one processor share it.
        num_devices=1 if jax.default_backend() == "cpu" else step.num_devices,
    )
    return {
        "backbones": [] if panel is None else list(panel.backbones),
        "images_per_second": 1e3 * num_images / speed.ahead_ms,
        **dataclasses.asdict(speed),
        "model_flops": dataclasses.asdict(flops) | {"total": flops.total},
        "forwards_in_student_flops": flops.student / flops.student_forward,
        "xla_flops": step.flops,
        "xla_bytes": step.bytes_accessed,
        "gflop_per_second": flops.total / speed.ahead_ms / 1e6,
        "utilisation": bounds.utilisation(speed.ahead_ms),
        "ceiling": bounds.ceiling,
        "bound_by": bounds.bound_by,
        **dataclasses.asdict(bounds),
        "memory_bytes": step.memory_bytes,
        "donated_bytes": step.donated_bytes,
        "compile_seconds": step.compile_seconds,
        "input_pipeline": {
            "num_workers": config.data.num_workers,
            "images_per_second": 1e3 * num_images / loader_ms,
            "times_the_step": speed.ahead_ms / loader_ms,
            "share_kept_when_fed": speed.ahead_ms / speed.fed_ms,
        },
    }


def _configs(config: Config, students: Sequence[str]) -> dict[str, Config]:
    """Returns the run for each student, by name."""
    if students:
        return {
            name: dataclasses.replace(config, student=student_config(name))
            for name in dict.fromkeys(students)
        }
    names = [name for name, known in STUDENTS.items() if known == config.student]
    return {names[0] if names else "configured": config}
