"""What each choice in `small` costs on this machine, one change at a time.

Random weights: time does not depend on them. Argument: rounds (20).

    python experiments/students/cost.py 40
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import jax

from fusionproxy_jax.commands.bench.latency import bench_files
from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.evaluation.complexity import pair_shapes, parameter_shapes
from fusionproxy_jax.evaluation.runners import RunnerOptions
from fusionproxy_jax.models.variants import build_student, student_config
from fusionproxy_jax.onnx_export.export import student_models
from fusionproxy_jax.runtime.cores import num_physical_cores

CHANGES = {
    "small": {},
    "layer norm": {"normalization": "layer"},
    "GELU": {"activation": "gelu"},
    "GRN": {"response_norm": True},
    "layer norm, GELU, GRN": {
        "normalization": "layer",
        "activation": "gelu",
        "response_norm": True,
    },
    "3x3 depthwise": {"kernel_size": 3},
    "expansion 4": {"expansion": 4},
    "joined by stacking": {"decoder_join": "concatenate"},
    "residual per colour": {"output": "rgb"},
    "residual of luminance": {"output": "luma"},
    "24, 56, 120 channels": {"stem_width": 24, "widths": (56, 120)},
    "finest features at half size": {
        "stem_stride": 2,
        "stem_width": 16,
        "widths": (32, 64, 128),
        "depths": (1, 2, 3),
    },
}


def _write(config: StudentConfig, path: Path) -> None:
    module = build_student(config)
    shapes = parameter_shapes(module, *pair_shapes(module.stride, module.stride))
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    params = jax.tree.unflatten(
        structure,
        [
            0.1 * jax.random.normal(k, x.shape)
            for k, x in zip(keys, leaves, strict=True)
        ],
    )
    models = student_models(params, config, "student", {})
    path.write_bytes(models["student_camera.onnx"].SerializeToString())


def main(num_rounds: int) -> None:
    """Exports every variant and times them side by side at 480x640."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, changes in CHANGES.items():
            paths.append(Path(folder) / f"{name}.onnx")
            _write(dataclasses.replace(student_config("small"), **changes), paths[-1])
        _, lines = bench_files(
            [str(path) for path in paths],
            sizes=[(480, 640)],
            runtimes=["onnxruntime"],
            options=RunnerOptions(threads=num_physical_cores()),
            num_warmup=3,
            num_rounds=num_rounds,
            seed=0,
            memory=False,
        )
    # With camera images in and out both ways of timing are the same.
    print("\n".join(line for line in lines if " network " not in line))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
