"""Metrics as JSON lines: one object a step, read as soon as it is written.

JSON has no NaN and no infinity: such a value is null in the file, NaN when read.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from fusionproxy_jax.runtime.files import atomic_path

METRICS_FILE = "metrics.jsonl"


class JsonLines:
    """Appends rows to `metrics.jsonl` of a run's folder."""

    def __init__(self, workdir: Path, *, after_step: int) -> None:
        """Continues after `after_step`; later rows of a killed run are dropped."""
        path = workdir / METRICS_FILE
        truncate_metrics(path, after_step)
        self._file = path.open("a")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row; readers see it when this returns."""
        finite = {
            name: value if math.isfinite(value) else None
            for name, value in values.items()
        }
        line = json.dumps({"step": step, **finite}, allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Returns the rows of a metrics file, `step` among their values.

    What is null is NaN. A file that is not there has no rows; lines that hold no row,
    as a kill or a full disk leaves them, are passed over.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    rows = (_row(line) for line in text.splitlines())
    return [row for row in rows if row is not None]


def truncate_metrics(path: Path, step: int) -> None:
    """Drops the lines after `step`, and those that hold no row.

    The steps after a restored checkpoint run again and would be written twice.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(errors="replace").splitlines():
        row = _row(line)
        if row is not None and row["step"] <= step:
            kept.append(line + "\n")
    with atomic_path(path) as temporary:
        temporary.write_text("".join(kept))


def _row(line: str) -> dict[str, float] | None:
    """Returns a line's values; None where it is no row."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("step"), int):
        return None
    return {
        name: math.nan if value is None else value
        for name, value in values.items()
        if value is None or isinstance(value, int | float)
    }
