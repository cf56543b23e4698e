"""Writes training metrics: one JSON object per line, and TensorBoard beside it."""

import json
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from fusionproxy_jax.runtime.files import atomic_path


def truncate_metrics(path: Path, step: int) -> None:
    """Drops the lines after `step`, and a last line that a kill cut short.

    The steps after a restored checkpoint run again and would be written twice.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if row["step"] > step:
            break
        kept.append(line + "\n")
    with atomic_path(path) as temporary:
        temporary.write_text("".join(kept))


class MetricWriter:
    """Appends rows to `metrics.jsonl` and `tensorboard/` of a run's folder."""

    def __init__(self, workdir: Path, *, after_step: int) -> None:
        """Continues after `after_step`; later rows of a killed run are dropped."""
        path = workdir / "metrics.jsonl"
        truncate_metrics(path, after_step)
        self._lines = path.open("a")
        # TensorBoard hides what an interrupted run logged from purge_step on.
        self._board = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=after_step + 1
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row; visible to readers when this returns."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both files."""
        self._lines.close()
        self._board.close()
