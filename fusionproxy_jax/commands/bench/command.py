"""The `fusionproxy bench` command: its flags, and which kind they ask for."""

import json as json_format
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fusionproxy_jax.commands.size import parse_size
from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path

Report = tuple[dict[str, Any], list[str]]
"""What is written as JSON, and the lines of the table."""

# The resolutions of the paper's Table 3.
_TABLE_3 = "480x640,768x1024"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measures how fast networks fuse or learn, or what teachers' samples cost.

    `latency` times any ONNX files of one or two image inputs side by side: in one
    process, taking turns, the network alone and from camera images to an image. With
    --jax it times students on JAX's device instead, against what the device can do.
    `students` does the same for all forms of the shipped students, and in JAX.
    `training` is timed on noise, so that it needs no data, against what the device can
    do and what the input pipeline delivers; every setting can be given as in
    `fusionproxy train`. `teachers` are those of --teacher.teachers, timed part by
    part on JAX's default device.
    """

    what: tyro.conf.Positional[Literal["latency", "students", "training", "teachers"]]
    # ONNX files or names of shipped ones (latency); the first is compared with.
    files: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="FILE.onnx|NAME [...]"),
    ] = ()
    # Image size, height x width; 480x640 for students, a tile for teachers.
    size: Annotated[str | None, tyro.conf.arg(metavar="HxW")] = None
    # Image sizes (latency, students); 480x640,768x1024 for latency.
    sizes: Annotated[str | None, tyro.conf.arg(metavar="HxW,HxW...")] = None
    # Timed rounds (latency, students, teachers) or steps (training).
    rounds: int = 20
    # Untimed calls of each candidate before the rounds (latency, students).
    warmup: int = 3
    # Seed of the order within the rounds (latency, students).
    order_seed: int = 0
    # Images whose samples are drawn at once (teachers).
    images: int = 1
    # Threads of the ONNX runtimes; all physical cores by default.
    threads: int | None = None
    # Runtimes of the files, side by side (latency, students).
    runtime: tuple[Literal["onnxruntime", "openvino"], ...] = ("onnxruntime",)
    # ONNX Runtime keeps freed memory for the next run (latency, students).
    arena: bool = True
    # How far ONNX Runtime rewrites graphs (latency, students).
    graph_level: Literal["basic", "extended", "all"] = "all"
    # Measures peak memory too, in a fresh process per file (latency, students).
    memory: bool = True
    # Students timed on JAX's device: names, or exported weights (latency).
    jax: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME|FILE.safetensors [...]")
    ] = ()
    # Computation of --jax; parameters and images are float32.
    dtype: Literal["float32", "bfloat16"] = "float32"
    # Pairs fused at once by --jax.
    batch: Annotated[str, tyro.conf.arg(metavar="N,N...")] = "1"
    # Students that train, by name, in place of the configured one (training).
    students: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [...]")] = ()
    # Also times the forms of their depthwise convolutions (training).
    depthwise: bool = False
    # Also times a population of so many members (training).
    members: int | None = None
    # Members that a device steps at once, one population each (training).
    members_at_once: tuple[int, ...] = ()
    # Folder of the students' files; the shipped ones by default.
    weights: Path | None = None
    # Also writes the report here.
    json: Path | None = None
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    def run(self) -> None:
        """Measures, prints a table and writes the JSON report."""
        if self.rounds < 1 or (self.threads is not None and self.threads < 1):
            raise FusionProxyError("--rounds and --threads must be at least 1")
        if self.warmup < 0:
            raise FusionProxyError(f"--warmup is {self.warmup}; it must be at least 0")
        if self.json is not None and not self.json.parent.is_dir():
            # Found out now, not after measuring.
            raise FusionProxyError(
                f"there is no folder {self.json.parent} for {self.json}"
            )
        if self.files and self.what != "latency":
            raise FusionProxyError(
                f"bench {self.what} takes no files ({self.files[0]}); compare ONNX "
                "files with bench latency"
            )
        if self.jax and self.what != "latency":
            raise FusionProxyError("--jax belongs to bench latency; use it there")
        of_training = self.students or self.depthwise or self.members
        if of_training and self.what != "training":
            raise FusionProxyError(
                "--students, --depthwise and --members belong to bench training; use "
                "them there"
            )
        if self.members_at_once and self.members is None:
            raise FusionProxyError("--members-at-once needs --members M")
        measures = {
            "latency": self._jax_latency if self.jax else self._latency,
            "students": self._students,
            "training": self._training,
            "teachers": self._teachers,
        }
        report, lines = measures[self.what]()
        print("\n".join(lines))
        if self.json is not None:
            with atomic_path(self.json) as temporary:
                temporary.write_text(json_format.dumps(report, indent=2) + "\n")

    # Each kind is imported when it is asked for: training and teachers load JAX.

    def _latency(self) -> Report:
        from fusionproxy_jax.commands.bench.latency import bench_files

        if not self.files:
            raise FusionProxyError(
                "bench latency needs ONNX files or names of shipped ones (base), or "
                "--jax NAME"
            )
        return bench_files(
            self.files, sizes=self._sizes(_TABLE_3), **self._ruler_options()
        )

    def _jax_latency(self) -> Report:
        from fusionproxy_jax.commands.bench.on_device import bench_on_device

        if self.files:
            raise FusionProxyError(
                "bench latency times either ONNX files or --jax students, in runs of "
                "their own; leave one of them away"
            )
        return bench_on_device(
            self.jax,
            sizes=self._sizes(_TABLE_3),
            batch_sizes=_parse_batches(self.batch),
            dtype=self.dtype,
            num_warmup=self.warmup,
            num_rounds=self.rounds,
            seed=self.order_seed,
        )

    def _students(self) -> Report:
        from fusionproxy_jax.commands.bench.students import bench_students

        return bench_students(
            self.weights, sizes=self._sizes("480x640"), **self._ruler_options()
        )

    def _training(self) -> Report:
        from fusionproxy_jax.commands.bench.training import bench_training

        return bench_training(
            self.config,
            num_steps=self.rounds,
            students=self.students,
            depthwise=self.depthwise,
            num_members=self.members,
            members_at_once=self.members_at_once,
        )

    def _teachers(self) -> Report:
        from fusionproxy_jax.commands.bench.teachers import bench_teachers

        return bench_teachers(
            self.config.teacher,
            size=parse_size(self.size) if self.size else None,
            num_images=self.images,
            num_rounds=self.rounds,
        )

    def _sizes(self, default: str) -> list[tuple[int, int]]:
        if self.size and self.sizes:
            raise FusionProxyError("give --size or --sizes, not both")
        return [
            parse_size(text) for text in (self.sizes or self.size or default).split(",")
        ]

    def _ruler_options(self) -> dict[str, Any]:
        from fusionproxy_jax.evaluation.runners import RunnerOptions
        from fusionproxy_jax.runtime.cores import num_physical_cores

        return {
            "runtimes": self.runtime,
            "options": RunnerOptions(
                threads=self.threads or num_physical_cores(),
                arena=self.arena,
                graph_level=self.graph_level,
            ),
            "num_warmup": self.warmup,
            "num_rounds": self.rounds,
            "seed": self.order_seed,
            "memory": self.memory,
        }


def _parse_batches(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise FusionProxyError(
            f"--batch {text!r} is not allowed; give numbers of pairs from 1 to 4096, "
            "such as 1,32"
        )
    return [int(part) for part in parts]
