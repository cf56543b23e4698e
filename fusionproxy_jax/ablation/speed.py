"""How fast the students of a table are on this machine, in ONNX Runtime.

All are timed beside each other in one process, as exported, on random parameters: what
a student costs does not depend on them. speed.json keeps what was measured.
"""

import dataclasses
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from fusionproxy_jax.ablation.speed_file import read_speeds, student_key, write_speeds
from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.candidates import NETWORK, GraphFile
from fusionproxy_jax.evaluation.complexity import pair_shapes, parameter_shapes
from fusionproxy_jax.evaluation.machine import load_average, processor_name
from fusionproxy_jax.evaluation.ruler import measure_candidates
from fusionproxy_jax.evaluation.runners import RunnerOptions, first_line
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.runtime.cores import num_physical_cores

# That of the paper's Table 3.
_SIZE = (480, 640)


def measure_speeds(
    students: Mapping[str, StudentConfig],
    workdir: Path,
    *,
    size: tuple[int, int] = _SIZE,
    num_rounds: int = 20,
) -> dict[str, Any]:
    """Returns frames a second and parameters of students, and writes speed.json.

    What is there for all of them on this processor is returned as it is.

    Args:
        students: Name for this measurement -> student.
        workdir: Folder of the ablation.
        size: Height and width of the pair.
        num_rounds: Timed runs of each.
    """
    keys = {
        name: student_key(dataclasses.asdict(config))
        for name, config in students.items()
    }
    found = read_speeds(workdir)
    here = {"processor": processor_name(), "size": list(size)}
    same = all(found.get(name) == value for name, value in here.items())
    if same and set(keys.values()) <= found.get("students", {}).keys():
        return found
    load = load_average()
    measured, notes = _measure(students, size=size, num_rounds=num_rounds)
    values = {
        **here,
        "threads": num_physical_cores(),
        "load_average": load,
        "notes": notes,
        "students": {keys[name]: one for name, one in measured.items()},
    }
    write_speeds(workdir, values)
    return values


def _measure(
    students: Mapping[str, StudentConfig], *, size: tuple[int, int], num_rounds: int
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Returns name -> numbers, and sentences on what could not be timed."""
    measured: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    candidates = []
    with tempfile.TemporaryDirectory() as folder:
        for name, config in students.items():
            module = build_student(config)
            pair = pair_shapes(module.stride, module.stride)
            shapes = parameter_shapes(module, *pair)
            measured[name] = {
                "parameters": sum(
                    math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)
                ),
                "frames_per_second": None,
            }
            try:
                candidates.append(_exported(name, config, Path(folder)))
            # Exporter and runtime raise what they like; the rest of the table stands.
            except Exception as error:
                notes.append(f"{name} is not timed: {first_line(error)}")
        if candidates:
            try:
                found = measure_candidates(
                    candidates, sizes=(size,), num_rounds=num_rounds, memory=False
                )
            except FusionProxyError as error:
                return measured, [*notes, str(error)]
            notes += found.notes
            for row in found.rows:
                if row.timed == NETWORK:
                    measured[row.candidate]["frames_per_second"] = row.frames_per_second
    return measured, notes


def _exported(name: str, config: StudentConfig, folder: Path) -> GraphFile:
    # Loads an exporter that not every installation has.
    from fusionproxy_jax.onnx_export.export import student_models

    module = build_student(config)
    pair = pair_shapes(module.stride, module.stride)
    zeros = [jnp.zeros(one.shape, one.dtype) for one in pair]
    params = module.init(jax.random.key(0), *zeros)["params"]
    path = folder / f"{name}.onnx"
    models = student_models(params, config, name, {})
    path.write_bytes(models[path.name].SerializeToString())
    options = RunnerOptions(threads=num_physical_cores())
    return GraphFile(name, path, runtime="onnxruntime", options=options)
