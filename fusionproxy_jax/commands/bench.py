"""`fusionproxy bench`: latency of the shipped students, or throughput of training."""

import importlib.util
import json as json_format
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from fusionproxy_jax.commands.size import parse_size
from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.latency import measure
from fusionproxy_jax.evaluation.machine import describe_machine, measure_gemm_peak
from fusionproxy_jax.runtime.cores import num_physical_cores
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.runtime.fuser import WEIGHTS
from fusionproxy_jax.runtime.session import OnnxStudent


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measures how fast students fuse or learn, or what teachers' samples cost.

    Students are timed in ONNX Runtime on the CPU, in both forms, and in JAX on its
    default device, all taking turns in one process. Training is timed on noise, so that
    it needs no data; every setting can be given as in `fusionproxy train`. Teachers are
    those of --teacher.teachers, timed part by part on JAX's default device.
    """

    what: tyro.conf.Positional[Literal["students", "training", "teachers"]]
    # Image size, height x width; 480x640 for students, a tile for teachers.
    size: Annotated[str | None, tyro.conf.arg(metavar="HxW")] = None
    # Timed rounds (students, teachers) or steps (training).
    rounds: int = 20
    # Images whose samples are drawn at once (teachers).
    images: int = 1
    # Threads of ONNX Runtime; all physical cores by default.
    threads: int | None = None
    # Folder of the students' files; the shipped ones by default.
    weights: Path | None = None
    # Also writes the report here.
    json: Path | None = None
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    def run(self) -> None:
        """Measures, prints a table and writes the JSON report."""
        if self.rounds < 1 or (self.threads is not None and self.threads < 1):
            raise FusionProxyError("--rounds and --threads must be at least 1")
        measures = {
            "students": self._students,
            "training": self._training,
            "teachers": self._teachers,
        }
        report, lines = measures[self.what]()
        print("\n".join(lines))
        if self.json is not None:
            with atomic_path(self.json) as temporary:
                temporary.write_text(json_format.dumps(report, indent=2) + "\n")

    def _students(self) -> tuple[dict[str, Any], list[str]]:
        size = self.size or "480x640"
        height, width = parse_size(size)
        threads = self.threads or num_physical_cores()
        folder = self.weights or WEIGHTS
        names = sorted(
            path.stem.removesuffix("_camera") for path in folder.glob("*_camera.onnx")
        )
        if not names:
            raise FusionProxyError(
                f"there are no students in {folder} to measure; write one with "
                "`fusionproxy export` and give its folder with --weights"
            )
        candidates: dict[str, Callable[[], object]] = {}
        costs: dict[str, dict[str, int | None]] = {}
        has_jax = importlib.util.find_spec("jax") is not None
        for name in names:
            costs[name] = {"parameters": None, "multiply_adds": None}
            for form, suffix in (("camera", "_camera"), ("float", "")):
                path = folder / f"{name}{suffix}.onnx"
                if path.is_file():
                    student = OnnxStudent(path, threads=threads)
                    candidates[f"{name} onnx {form}"] = _onnx_call(
                        student, height, width
                    )
            if has_jax and (folder / f"{name}.safetensors").is_file():
                candidates[f"{name} jax"], costs[name] = _jax_call(
                    folder / f"{name}.safetensors", height, width
                )
        latencies = measure(candidates, num_rounds=self.rounds)
        peak = measure_gemm_peak(threads=threads)
        rows = []
        for label, latency in latencies.items():
            name, runner = label.split(" ", 1)
            multiply_adds = costs[name]["multiply_adds"]
            row = {"student": name, "runner": runner, **asdict(latency)}
            row["frames_per_second"] = latency.frames_per_second
            row |= costs[name]
            if multiply_adds and runner != "jax":
                rate = 2.0 * multiply_adds / latency.p50_ms / 1e6
                row["share_of_gemm_peak"] = rate / peak["gflop_per_second"]
            rows.append(row)
        report = {
            "size": size,
            "batch_size": 1,
            "precision": "float32",
            "onnx_threads": threads,
            "rounds": self.rounds,
            "jax": _jax_device() if has_jax else None,
            "jax_skipped": None
            if has_jax
            else "jax is not installed; pip install 'fusionproxy-jax[train]'",
            "gemm_peak": peak,
            "machine": describe_machine(),
            "students": rows,
        }
        return report, _students_table(report)

    def _training(self) -> tuple[dict[str, Any], list[str]]:
        from fusionproxy_jax.training.throughput import measure_throughput

        rate = measure_throughput(self.config, num_steps=self.rounds)
        config = self.config
        report = {
            "images_per_second": rate,
            "batch_size": config.data.batch_size,
            "crop_px": config.data.crop_px,
            "precision": config.compute_dtype,
            "parallel": config.parallel,
            "student": asdict(config.student),
            "steps": self.rounds,
            "jax": _jax_device(),
            "machine": describe_machine(),
        }
        line = (
            f"{rate:.2f} images/s: batch {config.data.batch_size} of "
            f"{config.data.crop_px}x{config.data.crop_px} px, {config.compute_dtype}, "
            f"{config.parallel}, {report['jax']}"
        )
        return report, [line]

    def _teachers(self) -> tuple[dict[str, Any], list[str]]:
        from fusionproxy_jax.teachers.cost import device_peak_gflops, measure_teachers

        config = self.config.teacher
        size = self.size or f"{config.tile_px}x{config.tile_px}"
        height, width = parse_size(size)
        costs = measure_teachers(
            config,
            height=height,
            width=width,
            num_images=self.images,
            rounds=self.rounds,
        )
        peak = device_peak_gflops()
        report = {
            "size": size,
            "samples": config.num_samples,
            "images_at_once": self.images,
            "precision": config.compute_dtype,
            "device_peak_gflops": peak,
            "jax": _jax_device(),
            "machine": describe_machine(),
            "parts": [asdict(cost) for cost in costs],
        }
        return report, _teachers_table(report)


def _noise_pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return tuple(
        generator.integers(0, 256, (1, height, width, channels), np.uint8)
        for channels in (3, 1)
    )


def _onnx_call(student: OnnxStudent, height: int, width: int) -> Callable[[], object]:
    visible, infrared = _noise_pair(height, width)
    if student.form == "float":
        visible, infrared = (
            np.ascontiguousarray(image.transpose(0, 3, 1, 2), np.float32) / 255.0
            for image in (visible, infrared)
        )
    return lambda: student.run(visible, infrared)


def _jax_call(
    path: Path, height: int, width: int
) -> tuple[Callable[[], object], dict[str, int | None]]:
    """Returns a call of the Flax student on images on its device, and what it costs."""
    import jax

    from fusionproxy_jax.commands.describe import describe_student
    from fusionproxy_jax.commands.student_file import read_student
    from fusionproxy_jax.models.any_size import fuse_any_size
    from fusionproxy_jax.models.variants import build_student

    config, params, _ = read_student(path)
    module = build_student(config)
    fuse = jax.jit(lambda *inputs: fuse_any_size(module, *inputs))
    pair = [image.astype(np.float32) / 255.0 for image in _noise_pair(height, width)]
    inputs = jax.device_put((params, *pair))
    cost = describe_student(config, height, width)
    counted = {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
    return lambda: jax.block_until_ready(fuse(*inputs)), counted


def _jax_device() -> str:
    import jax

    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"


def _students_table(report: dict[str, Any]) -> list[str]:
    peak = report["gemm_peak"]
    lines = [
        f"{report['machine']['processor']}, {report['onnx_threads']} threads, "
        f"{report['size']}, batch 1, float32; matrix products reach "
        f"{peak['gflop_per_second']:.0f} GFLOP/s ({peak['runner']})",
        f"{'student':<10}{'runner':<14}{'p50 ms':>9}{'p95 ms':>9}{'frames/s':>10}"
        f"{'M params':>10}{'G mult-adds':>13}{'of peak':>9}",
    ]
    for row in report["students"]:
        parameters, multiply_adds = row["parameters"], row["multiply_adds"]
        share = row.get("share_of_gemm_peak")
        lines.append(
            f"{row['student']:<10}{row['runner']:<14}{row['p50_ms']:>9.1f}"
            f"{row['p95_ms']:>9.1f}{row['frames_per_second']:>10.1f}"
            + (f"{parameters / 1e6:>10.2f}" if parameters else f"{'':>10}")
            + (f"{multiply_adds / 1e9:>13.2f}" if multiply_adds else f"{'':>13}")
            + (f"{share:>9.0%}" if share else "")
        )
    if report["jax_skipped"]:
        lines.append(f"JAX left out: {report['jax_skipped']}")
    return lines


def _teachers_table(report: dict[str, Any]) -> list[str]:
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
