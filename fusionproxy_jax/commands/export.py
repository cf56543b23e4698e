"""`fusionproxy export`: a trained student as safetensors and two ONNX files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionproxy_jax.errors import FusionProxyError


@dataclass(frozen=True, kw_only=True)
class Export:
    """Writes NAME.safetensors, NAME.onnx (float NCHW), NAME_camera.onnx (uint8 NHWC).

    The ONNX files are compared with the Flax network before anything is written.
    """

    # Folder of a training run.
    workdir: Path | None = None
    # Or a weights file of an earlier export.
    weights: Path | None = None
    # Folder the files go to; made if missing.
    out: Path
    # Base of the file names.
    name: str = "base"

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
        from fusionproxy_jax.onnx_export import export_student

        config, params, metadata = self._student()
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FusionProxyError(
                f"could not make the folder {self.out}: {error.strerror}"
            ) from error
        differences = export_student(params, config, self.out, self.name, metadata)
        for file, difference in differences.items():
            print(f"{self.out / file}  largest difference from Flax {difference:.1e}")
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
