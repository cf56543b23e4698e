"""`fusionproxy bench students`: every form of the students of a folder, and JAX."""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusionproxy_jax.commands.bench.ruler_report import measured_report, table
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.candidates import Candidate, GraphFile
from fusionproxy_jax.evaluation.runners import RunnerOptions, Runtime
from fusionproxy_jax.runtime.fuser import WEIGHTS

# Endings of file names that tell forms of one student apart.
_FORM = re.compile(r"camera|float16|int8|\d+x\d+")


def bench_students(
    folder: Path | None,
    *,
    runtimes: Sequence[Runtime],
    options: RunnerOptions,
    **settings: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Returns report and table of the students of a folder, by default the shipped.

    Args:
        folder: Holds NAME.onnx, its other forms such as NAME_camera.onnx, and
            NAME.safetensors for the row of JAX.
        runtimes: Each file is opened in each.
        options: Of the runtimes.
        **settings: Of `measured_report`.

    Raises:
        FusionProxyError: The folder holds no student.
    """
    folder = folder or WEIGHTS
    has_jax = importlib.util.find_spec("jax") is not None
    candidates: list[Candidate] = []
    # By candidate's name: student, and what runs it in which form.
    labels: dict[str, tuple[str, str]] = {}
    for student, forms in students_in(folder).items():
        for form, path in forms.items():
            for runtime in runtimes:
                runner = {"onnxruntime": "onnx", "openvino": "openvino"}[runtime]
                name = f"{student} {runner} {form}"
                labels[name] = student, f"{runner} {form}"
                candidates.append(
                    GraphFile(name, path, runtime=runtime, options=options)
                )
        weights = folder / f"{student}.safetensors"
        if has_jax and weights.is_file():
            from fusionproxy_jax.commands.bench.jax_student import JaxStudent

            labels[f"{student} jax"] = student, "jax"
            candidates.append(JaxStudent(f"{student} jax", weights))
    report, rows = measured_report(
        candidates, runtimes=runtimes, options=options, **settings
    )
    report["jax"] = None
    report["jax_skipped"] = None
    if has_jax:
        from fusionproxy_jax.evaluation.accelerator import device_name

        report["jax"] = device_name()
    else:
        report["jax_skipped"] = (
            "jax is not installed; pip install 'fusionproxy-jax[train]'"
        )
        report["notes"].append(f"JAX left out: {report['jax_skipped']}")
    report["students"] = [
        dict(zip(("student", "runner"), labels[row.candidate], strict=True))
        | asdict(row)
        for row in rows
    ]
    return report, table(report, rows)


def students_in(folder: Path) -> dict[str, dict[str, Path]]:
    """Returns student -> form -> file; the form without an ending is `float`.

    Raises:
        FusionProxyError: The folder holds no ONNX file.
    """
    students: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*.onnx")):
        words = path.stem.split("_")
        forms = []
        while len(words) > 1 and _FORM.fullmatch(words[-1]):
            forms.insert(0, words.pop())
        form = " ".join(forms) or "float"
        students.setdefault("_".join(words), {})[form] = path
    if not students:
        raise FusionProxyError(
            f"there are no students in {folder} to measure; write one with "
            "`fusionproxy export` and give its folder with --weights"
        )
    return students
