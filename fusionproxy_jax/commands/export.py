"""`fusionproxy export`: a trained student as safetensors and ONNX files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fusionproxy_jax.commands.size import parse_size
from fusionproxy_jax.errors import FusionProxyError


@dataclass(frozen=True, kw_only=True)
class Export:
    """Writes NAME.safetensors, NAME.onnx (float NCHW), NAME_camera.onnx (uint8 NHWC).

    fusionproxy export --workdir runs/mine --out mine --precision float32 float16

    Other precisions are NAME_float16.onnx and NAME_int8.onnx, with the same inputs and
    outputs, and files for one size end in _HEIGHTxWIDTH; each has its camera twin. The
    files are compared with the Flax network or the float32 ones before anything is
    written.
    """

    # Folder of a training run.
    workdir: Path | None = None
    # Or a weights file of an earlier export.
    weights: Path | None = None
    # Folder the files go to; made if missing.
    out: Path
    # Base of the file names.
    name: str = "base"
    # Which precisions to write.
    precision: tuple[Literal["float32", "float16", "int8"], ...] = ("float32",)
    # Sizes to write files for besides those that take any, height x width.
    size: Annotated[tuple[str, ...], tyro.conf.arg(metavar="HxW [HxW ...]")] = ()
    # Folders of pairs, or tfds:NAME, that int8 is fitted to; what training with its
    # default data.validation-fraction holds out is left out here too.
    calibration: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DIR [DIR ...]")] = ()
    # So many of these pairs.
    calibration_pairs: int = 32
    # PSNR to float32 that int8 must reach on them, dB.
    min_psnr: float = 38.0

    def run(self) -> None:
        """Exports, and prints where the files are and how exact they are."""
        if (self.workdir is None) == (self.weights is None):
            raise FusionProxyError(
                "export takes either --workdir RUN or --weights FILE.safetensors"
            )
        if not self.name or Path(self.name).name != self.name:
            raise FusionProxyError(
                f"--name {self.name!r} is no file name; give one such as base"
            )
        sizes = tuple(parse_size(text) for text in self.size)
        from fusionproxy_jax.input_pipeline.sampled_pairs import SampledPairs
        from fusionproxy_jax.onnx_export.deployment import Deployment, export_forms

        # Pairs that are not there are found out now, not after reading the student.
        deployment = Deployment(
            precisions=self.precision,
            sizes=sizes,
            calibration=SampledPairs(
                self.calibration, self.calibration_pairs, split="train"
            )
            if self.calibration
            else (),
            min_psnr_db=self.min_psnr,
        )
        config, params, metadata = self._student()
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FusionProxyError(
                f"could not make the folder {self.out}: {error.strerror}"
            ) from error
        found = export_forms(params, config, self.out, self.name, metadata, deployment)
        for file, told in found.items():
            print(f"{self.out / file}  {told}")
        print(self.out / f"{self.name}.safetensors")

    def _student(self) -> tuple[Any, Any, dict[str, Any]]:
        """Returns configuration, parameters and what is told of their training."""
        if self.workdir is not None:
            from fusionproxy_jax.training.checkpoint import load_student

            config, params, run = load_student(self.workdir)
            return config, params, training_summary(run)
        from fusionproxy_jax.commands.student_file import read_student

        return read_student(self.weights)


def training_summary(run: dict[str, Any]) -> dict[str, Any]:
    """Returns a run's metadata without the folder names of the machine it ran on."""
    config = without_folders(run["config"])
    # What taught the student is what the cache holds, not what the run asked for.
    config["teacher"] = json.loads(run["cache_config"])
    return {
        "step": run["step"],
        "code_version": run["code_version"],
        "jax_version": run["jax_version"],
        "config": config,
    }


def without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a run's configuration with its files named, not located."""
    data = dict(config["data"])
    data["sources"] = [Path(source).name for source in data["sources"]]
    start = config.get("start_from")
    located = {}
    # Earlier runs knew no such file.
    if config.get("encoder_weights") is not None:
        located["encoder_weights"] = Path(config["encoder_weights"]).name
    if "panel" in config:
        backbones = [_entry_without_folder(e) for e in config["panel"]["backbones"]]
        located["panel"] = {**config["panel"], "backbones": backbones}
    return {
        **config,
        **located,
        "data": data,
        "start_from": None if start is None else Path(start).name,
    }


def _entry_without_folder(entry: str) -> str:
    """Returns onnx:FILE#TENSOR or NAME=PATH with the file's name for its path."""
    if entry.startswith("onnx:"):
        path, mark, rest = entry.removeprefix("onnx:").partition("#")
        return f"onnx:{Path(path).name}{mark}{rest}"
    name, given, path = entry.partition("=")
    return f"{name}{given}{Path(path).name}"
