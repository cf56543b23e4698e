"""`fusionproxy quickstart`: the whole chain in miniature on synthetic pairs."""

import importlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fusionproxy_jax.config import (
    Config,
    DataConfig,
    DDFMConfig,
    LossConfig,
    MaskDifuserConfig,
    MisalignmentConfig,
    OptimizerConfig,
    StudentConfig,
    TeacherConfig,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path

PAIR_SIZE = (192, 256)


# An epsilon of Eq. 7 beside which no variance counts: all pixels weigh the same.
_UNIFORM_EPSILON = 1e6


def miniature(
    pairs: tuple[Path, ...],
    *,
    num_steps: int,
    teachers: tuple[str, ...] = ("gaussian",),
    pixel_weights: Literal["variance", "uniform"] = "variance",
) -> Config:
    """Returns a run that fits in a minute on two cores, teacher included."""
    return Config(
        student=StudentConfig(stem_width=12, widths=(16, 24), depths=(1, 1)),
        teacher=TeacherConfig(
            teachers=teachers,
            num_samples=2,
            ddfm=DDFMConfig(num_steps=10),
            mask_difuser=MaskDifuserConfig(num_steps=6, index_shift=0),
            tile_px=128,
        ),
        data=DataConfig(
            sources=tuple(map(str, pairs)),
            validation_fraction=0.2,
            crop_px=64,
            batch_size=8,
        ),
        loss=LossConfig(
            epsilon=_UNIFORM_EPSILON if pixel_weights == "uniform" else 1e-3
        ),
        misalignment=MisalignmentConfig(
            translation_px=2.0, rotation_deg=0.5, probability=0.3
        ),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=20, ema_decay=0.98),
        num_steps=num_steps,
        log_every=10,
        checkpoint_every=100,
        picture_every=num_steps,
    )


@dataclass
class _Stages:
    """Names and times the stages of the chain as they run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        print(f"{name:<8}  {what}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """Run the whole chain in miniature and look at the result.

    Makes synthetic infrared-visible pairs, draws a teacher ensemble for each, distils a
    tiny student, exports it to ONNX, and fuses and measures the held-out pairs with it
    and with the shipped student. Look at contact_sheet.png and report.json in the end.
    The same command continues an interrupted run.
    """

    # Folder for everything the run writes.
    out: Path
    # Synthetic pairs; a fifth of them is held out.
    num_pairs: int = 20
    # Training steps of the tiny student.
    num_steps: int = 300
    # Teachers of the ensemble, joined by commas: ddfm, mask_difuser, gaussian, average.
    teachers: str = "gaussian"
    # Eq. 7's weights: by the ensemble's variance, or all alike.
    pixel_weights: Literal["variance", "uniform"] = "variance"
    # Folders of real pairs to use instead of synthetic ones.
    pairs: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Rejects counts the chain cannot run with."""
        if self.num_pairs < 5:
            raise FusionProxyError(
                f"--num-pairs is {self.num_pairs}; it must be at least 5, so that one "
                "pair can be held out"
            )
        if self.num_steps < 50:
            raise FusionProxyError(
                f"--num-steps is {self.num_steps}; it must be at least 50"
            )

    def run(self) -> None:
        """Runs every stage, timing each, then says where to look."""
        # Before the first file: what the later stages need must be installed.
        for module in ("teachers.cache", "training.loop", "onnx_export"):
            importlib.import_module(f"fusionproxy_jax.{module}")
        stages = _Stages()
        pairs, cache = self.pairs, self.out / "teacher"
        workdir, student = self.out / "training", self.out / "student"
        if not pairs:
            pairs = (self.out / "pairs",)
            with stages.stage("pairs", f"{self.num_pairs} synthetic road scenes"):
                _write_pairs(pairs[0], self.num_pairs)
        config = miniature(
            pairs,
            num_steps=self.num_steps,
            teachers=tuple(self.teachers.split(",")),
            pixel_weights=self.pixel_weights,
        )
        with stages.stage("teacher", f"samples of {self.teachers}"):
            gate = _teach(config, cache)
        with stages.stage("training", f"{self.num_steps} steps of a tiny student"):
            _train(config, cache, workdir)
        with stages.stage("export", "ONNX files, checked against Flax"):
            differences = _export(workdir, student)
        with stages.stage("fusion", "held-out pairs, by the tiny and the shipped one"):
            held_out = _held_out(config)
            sheet = _fuse(held_out, student / "tiny_camera.onnx", self.out)
        with stages.stage("metrics", f"of {len(held_out)} held-out pairs"):
            metrics = _measure(held_out, student / "tiny_camera.onnx")
        report = {
            "seconds": stages.seconds,
            "total_seconds": round(sum(stages.seconds.values()), 2),
            "loss_curve": _loss_curve(workdir),
            "teacher": gate,
            "onnx_largest_difference": differences,
            "held_out_metrics": metrics,
            "contact_sheet": sheet.name,
        }
        with atomic_path(self.out / "report.json") as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
        curve = report["loss_curve"]
        print(
            f"done in {report['total_seconds']:.0f} s: loss {curve[0]['loss']:.3f} -> "
            f"{curve[-1]['loss']:.3f}; look at {sheet} and {self.out / 'report.json'}"
        )


def _write_pairs(folder: Path, num_pairs: int) -> None:
    """Writes the synthetic pairs as the folders of a data set; existing files stay."""
    import numpy as np

    from fusionproxy_jax.input_pipeline.synthetic import synthetic_pair
    from fusionproxy_jax.runtime.images import write_image

    for kind in ("visible", "infrared"):
        try:
            (folder / kind).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FusionProxyError(
                f"could not make the folder {folder / kind}: {error.strerror}"
            ) from error
    height, width = PAIR_SIZE
    for index in range(num_pairs):
        pair = synthetic_pair(index, height=height, width=width)
        name = f"{index:03d}_{pair['scene']}.png"
        infrared = np.round(255 * pair["infrared"]).astype(np.uint8)
        for kind, image in (("visible", pair["visible"]), ("infrared", infrared)):
            if not (folder / kind / name).is_file():
                write_image(folder / kind / name, image)


def _teach(config: Config, cache: Path) -> dict[str, Any]:
    from fusionproxy_jax.input_pipeline.pairs import load_pairs
    from fusionproxy_jax.input_pipeline.split import split_pairs
    from fusionproxy_jax.teachers.cache import build_cache

    pairs = load_pairs(config.data.sources)
    train, _ = split_pairs(pairs.ids_and_groups, config.data.validation_fraction)
    # A miniature shows what an ensemble is; it need not be fit to teach.
    return build_cache(
        pairs.subset(train), config.teacher, cache, accept_failed_gate=True
    ).report


def _train(config: Config, cache: Path, workdir: Path) -> None:
    from fusionproxy_jax.commands.training_progress import progress_line
    from fusionproxy_jax.training.loop import train
    from fusionproxy_jax.training.reporting import Progress

    def show(progress: Progress) -> None:
        # The curve has every tenth step; a reader needs fewer lines.
        if progress.step % 50 == 0:
            line = f"{'':8}  {progress_line(progress)}"
            print(line, file=sys.stderr, flush=True)

    result = train(
        config,
        cache,
        workdir,
        progress=show,
    )
    if result.signal_number is not None:
        raise KeyboardInterrupt


def _export(workdir: Path, directory: Path) -> dict[str, float]:
    from fusionproxy_jax.commands.export import training_summary
    from fusionproxy_jax.onnx_export import export_student
    from fusionproxy_jax.training.checkpoint import load_student

    student, params, run = load_student(workdir)
    directory.mkdir(parents=True, exist_ok=True)
    return export_student(params, student, directory, "tiny", training_summary(run))


def _held_out(config: Config) -> list[Any]:
    from fusionproxy_jax.input_pipeline.split import split_pairs
    from fusionproxy_jax.runtime.pairing import find_pairs

    found = [pair for root in config.data.sources for pair in find_pairs(Path(root))]
    groups = [(pair.id, pair.group) for pair in found]
    _, held_out = split_pairs(groups, config.data.validation_fraction)
    return [found[index] for index in held_out]


def _measure(pairs: list[Any], tiny: Path) -> dict[str, dict[str, float]]:
    """Returns method -> metric -> mean over the pairs, controls included."""
    from fusionproxy_jax.evaluation.controls import CONTROLS
    from fusionproxy_jax.evaluation.report import mean_metrics
    from fusionproxy_jax.evaluation.survey import measure_pairs
    from fusionproxy_jax.runtime.fuser import load

    methods = {"tiny": load(tiny, threads=1), "small": load("small", threads=1)}
    return mean_metrics(list(measure_pairs(pairs, {**methods, **CONTROLS})))


def _fuse(pairs: list[Any], tiny: Path, out: Path) -> Path:
    """Fuses held-out pairs by both students; returns the contact sheet's path."""
    from fusionproxy_jax.evaluation.contact_sheet import contact_sheet
    from fusionproxy_jax.runtime.fuser import load
    from fusionproxy_jax.runtime.images import read_infrared, read_visible, write_image

    fusers = {"tiny student": load(tiny), "shipped student": load("small")}
    rows = []
    # Few rows are looked at; many would make the picture large.
    for pair in pairs[:8]:
        visible, infrared = read_visible(pair.visible), read_infrared(pair.infrared)
        row = [("visible", visible), ("infrared", infrared)]
        for title, fuse in fusers.items():
            fused = fuse(visible, infrared)
            folder = out / "fused" / title.split()[0]
            folder.mkdir(parents=True, exist_ok=True)
            write_image(folder / f"{pair.visible.stem}.png", fused)
            row.append((title, fused))
        rows.append(row)
    # Labels on the first row serve as column titles.
    rows[1:] = [[("", image) for _, image in row] for row in rows[1:]]
    sheet = out / "contact_sheet.png"
    write_image(sheet, contact_sheet(rows))
    return sheet


def _loss_curve(workdir: Path) -> list[dict[str, float]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [{"step": record["step"], "loss": record["loss"]} for record in records]
