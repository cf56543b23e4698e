"""`fusionproxy bench latency FILES`: any ONNX files beside each other."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusionproxy_jax.commands.bench.ruler_report import measured_report, table
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.candidates import GraphFile
from fusionproxy_jax.evaluation.runners import RunnerOptions, Runtime
from fusionproxy_jax.runtime.fuser import WEIGHTS


def bench_files(
    files: Sequence[str],
    *,
    runtimes: Sequence[Runtime],
    options: RunnerOptions,
    **settings: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Returns report and table of ONNX files, given by path or as shipped names.

    Args:
        files: The first one is compared with.
        runtimes: Each file is opened in each.
        options: Of the runtimes.
        **settings: Of `measured_report`.

    Raises:
        FusionProxyError: A file is missing or takes no images, or none was measured.
    """
    paths = [_path(text) for text in files]
    opened = [(path, runtime) for path in paths for runtime in runtimes]
    candidates = [
        GraphFile(name, path, runtime=runtime, options=options)
        for name, (path, runtime) in zip(_names(opened), opened, strict=True)
    ]
    report, rows = measured_report(
        candidates, runtimes=runtimes, options=options, **settings
    )
    report["rows"] = [asdict(row) for row in rows]
    return report, table(report, rows)


def _path(text: str) -> Path:
    shipped = WEIGHTS / f"{text}.onnx"
    if Path(text).suffix.lower() == ".onnx" or not shipped.is_file():
        if Path(text).is_file():
            return Path(text)
        names = ", ".join(sorted(path.stem for path in WEIGHTS.glob("*.onnx")))
        raise FusionProxyError(
            f"there is no ONNX file {text}; give paths of .onnx files, or shipped ones "
            f"by name: {names}"
        )
    return shipped


def _names(opened: Sequence[tuple[Path, Runtime]]) -> list[str]:
    """Returns a name of its own for each: the stem, more where that is not enough."""
    folders = Counter((path.stem, path.parent) for path, _ in opened)
    stems = Counter(stem for stem, _ in folders)
    num_runtimes = len({runtime for _, runtime in opened})
    names, seen = [], Counter()
    for path, runtime in opened:
        name = path.stem if stems[path.stem] == 1 else str(path)
        name += f" {runtime}" if num_runtimes > 1 else ""
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names
