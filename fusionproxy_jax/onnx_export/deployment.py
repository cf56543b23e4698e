"""All files a student is deployed as: interfaces, precisions and sizes.

A name is NAME[_PRECISION][_camera][_HEIGHTxWIDTH].onnx; float32 and free sizes leave
theirs out. Inputs and outputs are the same in every precision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnx

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.extreme_pairs import Pair
from fusionproxy_jax.evaluation.image_graph import Size
from fusionproxy_jax.onnx_export.export import checked_models, write_student
from fusionproxy_jax.onnx_export.fixed_size import fixed_size
from fusionproxy_jax.onnx_export.form_checks import (
    check_fixed,
    check_float16,
    check_int8,
)
from fusionproxy_jax.onnx_export.half_precision import half_precision
from fusionproxy_jax.onnx_export.int8 import Int8Options, quantize

Precision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Which forms of a student are wanted.

    Attributes:
        precisions: At least one.
        sizes: Height x width of the forms that are added for one size each.
        calibration: Named pairs, for int8 alone.
        min_psnr_db: What int8 must reach on them.
        int8: What stays float32 in the int8 forms.
    """

    precisions: tuple[Precision, ...] = ("float32",)
    sizes: tuple[Size, ...] = ()
    calibration: Sequence[tuple[str, Pair]] = ()
    min_psnr_db: float = 38.0
    int8: Int8Options = field(default_factory=Int8Options)

    def __post_init__(self) -> None:
        """Rejects int8 without pairs, pairs without int8, and no precision."""
        if not self.precisions:
            raise FusionProxyError(
                "no precision is given; name float32, float16 or int8"
            )
        if "int8" in self.precisions and not len(self.calibration):
            raise FusionProxyError(
                "int8 needs pairs to measure the range of its values on; name folders "
                "of pairs with --calibration DIR"
            )
        if len(self.calibration) and "int8" not in self.precisions:
            raise FusionProxyError(
                "--calibration is for int8 only; add int8 to --precision or leave it "
                "away"
            )


def file_name(
    name: str,
    precision: Precision = "float32",
    *,
    camera: bool,
    size: Size | None = None,
) -> str:
    """Returns the name of the file of one form."""
    parts = [
        name,
        "" if precision == "float32" else f"_{precision}",
        "_camera" if camera else "",
        "" if size is None else f"_{size[0]}x{size[1]}",
    ]
    return "".join([*parts, ".onnx"])


def deployed_models(
    float32: Mapping[str, onnx.ModelProto], name: str, deployment: Deployment
) -> tuple[dict[str, onnx.ModelProto], dict[str, str]]:
    """Returns the wanted forms by file name, and what each one's check found.

    Args:
        float32: What `student_models` returned.
        name: Base of the file names.
        deployment: Which forms; float32 ones of free size are taken as checked.

    Raises:
        FusionProxyError: A form fails its check.
    """
    models: dict[str, onnx.ModelProto] = {}
    found: dict[str, str] = {}
    for precision in dict.fromkeys(deployment.precisions):
        for camera in (False, True):
            source = float32[file_name(name, camera=camera)]
            file = file_name(name, precision, camera=camera)
            match precision:
                case "float32":
                    models[file] = source
                case "float16":
                    models[file] = half_precision(source)
                    found[file] = check_float16(file, models[file], source)
                case "int8":
                    pairs = deployment.calibration
                    models[file] = quantize(source, pairs, deployment.int8)
                    found[file] = check_int8(
                        file,
                        models[file],
                        source,
                        pairs,
                        min_psnr_db=deployment.min_psnr_db,
                    )
            _set_property(models[file], "precision", precision)
            for size in dict.fromkeys(deployment.sizes):
                fixed_file = file_name(name, precision, camera=camera, size=size)
                models[fixed_file] = fixed_size(models[file], *size)
                found[fixed_file] = check_fixed(
                    fixed_file, models[fixed_file], models[file], size
                )
    return models, found


def export_forms(
    params: Any,
    config: StudentConfig,
    directory: Path,
    name: str,
    metadata: Mapping[str, Any],
    deployment: Deployment,
) -> dict[str, str]:
    """Writes the wanted forms and `<name>.safetensors`, none before all are checked.

    Returns:
        By file name, what its check found.

    Raises:
        FusionProxyError: A form fails its check, or a file cannot be written.
    """
    float32, differences = checked_models(params, config, name, metadata)
    models, found = deployed_models(float32, name, deployment)
    write_student(models, params, config, directory, name, metadata)
    return {
        file: f"largest difference from Flax {differences[file]:.1e}"
        if file in differences
        else found[file]
        for file in models
    }


def _set_property(model: onnx.ModelProto, key: str, value: str) -> None:
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = value
            return
    model.metadata_props.add(key=key, value=value)
