"""`fusionproxy runs`: a line for every run, of sweeps too, below some folders."""

import json as json_format
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import tyro

from fusionproxy_jax.config.experiment_file import suggestion
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.run_listing import (
    RunSummary,
    differing_settings,
    list_runs,
)

_ITSELF = ("trains", "step", "state", "written")


@dataclass(frozen=True, kw_only=True)
class Runs:
    """List the runs of `train`, `train-teacher` and `sweep` below some folders.

    Tells what each trains, how far it is and whether it goes on, its last losses, its
    speed, when it last wrote, and its scores on held-out pairs once a sweep has
    measured them.
    """

    # Folders of runs, or folders above them.
    folders: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="FOLDER [FOLDER ...]"),
    ]
    # Column to sort by, smallest first; the name by default.
    sort: str | None = None
    # Largest first.
    descending: bool = False
    # Columns instead of the usual ones: trains, step, state, written, and any metric,
    # score or setting (loss, images_per_second, Qabf, loss.routing_temperature).
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")] = ()
    # Prints the settings that differ between the runs beside their results.
    compare: bool = False
    # Prints JSON instead of a table, with all metrics, scores and settings.
    json: bool = False

    def run(self) -> None:
        """Prints the runs."""
        if not self.folders:
            raise FusionProxyError(
                "name at least one folder, as in: fusionproxy runs ."
            )
        runs = list_runs(self.folders)
        if self.sort is not None:
            _check_columns((self.sort,), runs, option="--sort")
            runs = _sorted(runs, self.sort, descending=self.descending)
        elif self.descending:
            runs.reverse()
        _check_columns(self.columns, runs, option="--columns")
        if self.json:
            shown = differing_settings(runs) if self.compare else None
            print(json_format.dumps([_as_json(run, shown) for run in runs], indent=2))
            return
        columns = self.columns or _usual_columns(runs, compare=self.compare)
        if self.compare and self.columns:
            columns = (*differing_settings(runs), *columns)
        print("\n".join(_table(runs, columns)))


def _usual_columns(runs: Sequence[RunSummary], *, compare: bool) -> tuple[str, ...]:
    metrics = {name for run in runs for name in run.metrics}
    losses = sorted(name for name in metrics if name.endswith("_loss"))
    results = [name for name in ("loss", *losses) if name in metrics]
    scores = dict.fromkeys(name for run in runs for name in run.scores)
    if compare:
        return (*differing_settings(runs), "step", "state", *results, *scores)
    speed = ["images_per_second"] if "images_per_second" in metrics else []
    return ("trains", "step", "state", *results, *speed, "written", *scores)


def _check_columns(
    names: Sequence[str], runs: Sequence[RunSummary], *, option: str
) -> None:
    known = {"name": None} | dict.fromkeys(_ITSELF)
    for run in runs:
        known |= dict.fromkeys((*run.metrics, *run.scores, *run.settings))
    for name in names:
        if name not in known:
            raise FusionProxyError(
                f"{option} names {name!r}, which none of these runs has; "
                f"{suggestion(name, list(known))}"
            )


def _value(run: RunSummary, column: str) -> Any:
    """Returns what a run has in a column; None where it has nothing."""
    if column == "name" or column in _ITSELF:
        return getattr(run, column)
    for values in (run.metrics, run.scores, run.settings):
        if column in values:
            return values[column]
    return None


def _sorted(
    runs: Sequence[RunSummary], column: str, *, descending: bool
) -> list[RunSummary]:
    """Returns the runs by a column's numbers, then by its texts; then those without."""
    numbers, texts, without = [], [], []
    for run in runs:
        value = _value(run, column)
        if isinstance(value, int | float) and not math.isnan(value):
            numbers.append((value, run))
        elif value is None or isinstance(value, float):
            without.append(run)
        else:
            texts.append((str(value), run))
    ordered = []
    for group in (numbers, texts):
        group.sort(key=lambda pair: pair[0], reverse=descending)
        ordered += [run for _, run in group]
    return ordered + without


def _table(runs: Sequence[RunSummary], columns: Sequence[str]) -> list[str]:
    now = time.time()
    head = ["run", *("images/s" if c == "images_per_second" else c for c in columns)]
    rows = [head] + [
        [run.name, *(_cell(run, column, now=now) for column in columns)] for run in runs
    ]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _cell(run: RunSummary, column: str, *, now: float) -> str:
    if column == "step":
        return f"{run.step}/{'?' if run.num_steps is None else run.num_steps}"
    if column == "state":
        return run.state if run.died_at is None else f"dead at {run.died_at}"
    if column == "written":
        return _age(now - run.written)
    value = _value(run, column)
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)


def _age(seconds: float) -> str:
    """Returns how long ago something was, in its largest whole unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _as_json(run: RunSummary, shown: Sequence[str] | None) -> dict[str, Any]:
    """Returns a run as JSON values, with the settings named only or with all."""
    settings = run.settings
    if shown is not None:
        settings = {name: settings.get(name) for name in shown}
    return {
        "name": run.name,
        "folder": str(run.folder),
        "trains": run.trains,
        "step": run.step,
        "num_steps": run.num_steps,
        "state": run.state,
        "died_at": run.died_at,
        "metrics": {name: _plain(value) for name, value in run.metrics.items()},
        "scores": {name: _plain(value) for name, value in run.scores.items()},
        "written": datetime.fromtimestamp(run.written, UTC).isoformat(),
        "settings": {name: _plain(value) for name, value in settings.items()},
    }


def _plain(value: Any) -> Any:
    """Returns what JSON can say: NaN is null there, infinity a text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
