"""What lies in the folders of runs: how far they are, how well they do.

Reads files only, those of members of sweeps too, and neither JAX nor checkpoints. Files
may be missing, half-written or of other versions: what cannot be read is not known.
"""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fusionproxy_jax.config.identity import flat_settings
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.logs.json_lines import METRICS_FILE, read_metrics

State = Literal["running", "stopped", "finished", "dead"]
_STATES = ("running", "stopped", "finished", "dead")

_CONFIG_FILE = "config.json"
_STATUS_FILE = "status.json"
_SCORES_FILE = "scores.json"
# Folders inside a run's, and a cache's, that can hold thousands of files and no run.
_NO_RUNS = frozenset({"checkpoints", "tensorboard", "pictures", "wandb", "features"})
# A run is silent while it compiles, and between its rows.
_PATIENCE_SECONDS = 600
_PATIENCE_ROWS = 5


@dataclass(frozen=True)
class RunSummary:
    """One run as its folder tells; what it does not tell is None or empty.

    Attributes:
        name: Its path below the folder that was searched.
        folder: Where it lies.
        trains: "student", or "teacher NAME".
        step: Updates made, as far as they were reported.
        num_steps: Updates in all.
        state: What it says of itself; where it does not, or has not written for long
            although it runs, what its steps and the age of its files say.
        died_at: Step at which a dead one stopped being finite.
        metrics: Last row: losses, images a second; NaN where they were not finite.
        scores: Means over held-out pairs, of a finished run.
        written: When it last wrote, in seconds since the epoch.
        settings: Dotted name to value.
    """

    name: str
    folder: Path
    trains: str | None
    step: int
    num_steps: int | None
    state: State
    died_at: int | None
    metrics: Mapping[str, float]
    scores: Mapping[str, float]
    written: float
    settings: Mapping[str, Any]


def list_runs(folders: Sequence[Path], *, now: float | None = None) -> list[RunSummary]:
    """Returns every run in or below `folders`, by name.

    Args:
        folders: Where to look; found twice, a run is listed once.
        now: In seconds since the epoch; None is the present.

    Raises:
        FusionProxyError: A folder is not there, or they hold no run at all.
    """
    now = time.time() if now is None else now
    found: dict[Path, str] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FusionProxyError(f"there is no folder {folder} to look for runs in")
        for path in _run_folders(folder):
            own = path.relative_to(folder).as_posix()
            name = path.as_posix() if len(folders) > 1 or own == "." else own
            found.setdefault(path.resolve(), name)
    if not found:
        raise FusionProxyError(
            f"no run lies in {', '.join(map(str, folders))}; a run's folder holds "
            f"{_CONFIG_FILE} and {METRICS_FILE}, as `fusionproxy train --workdir` "
            "makes it"
        )
    runs = [read_run(path, name=name, now=now) for path, name in found.items()]
    return sorted(runs, key=lambda run: run.name)


def read_run(folder: Path, *, name: str, now: float) -> RunSummary:
    """Returns what one run's folder tells."""
    config = _read_object(folder / _CONFIG_FILE)
    status = _read_object(folder / _STATUS_FILE)
    scores = _read_object(folder / _SCORES_FILE).get("scores")
    rows = read_metrics(folder / METRICS_FILE)
    last = rows[-1] if rows else {}
    steps = [last.get("step"), status.get("step")]
    step = max((n for n in steps if isinstance(n, int)), default=0)
    num_steps = config.get("num_steps", status.get("num_steps"))
    num_steps = num_steps if isinstance(num_steps, int) else None
    metrics = {key: value for key, value in last.items() if key != "step"}
    written = _last_written(folder)
    state = status.get("state")
    if state not in _STATES or state == "running":
        is_silent = now - written > _patience(config, metrics)
        state = _guess(step, num_steps, metrics, is_silent=is_silent)
    died_at = status.get("died_at")
    return RunSummary(
        name=name,
        folder=folder,
        trains=_trains(config),
        step=step,
        num_steps=num_steps,
        state=state,
        died_at=died_at if state == "dead" and isinstance(died_at, int) else None,
        metrics=metrics,
        scores={
            key: float(value)
            for key, value in (scores.items() if isinstance(scores, dict) else ())
            if isinstance(value, int | float)
        },
        written=written,
        settings=flat_settings(config),
    )


def differing_settings(runs: Sequence[RunSummary]) -> list[str]:
    """Returns the dotted names of settings that are not the same in all runs."""
    names = sorted({name for run in runs for name in run.settings})
    return [
        name
        for name in names
        if len({json.dumps(run.settings.get(name)) for run in runs}) > 1
    ]


def _run_folders(top: Path) -> list[Path]:
    """Returns the folders of runs in and below `top`."""
    found = []
    for folder, below, files in os.walk(top):
        below[:] = [n for n in below if n not in _NO_RUNS and not n.startswith(".")]
        if _CONFIG_FILE in files and METRICS_FILE in files:
            found.append(Path(folder))
    return found


def _read_object(path: Path) -> dict[str, Any]:
    """Returns the object of a JSON file, an empty one where there is none."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _last_written(folder: Path) -> float:
    times = [0.0]
    for name in (_CONFIG_FILE, METRICS_FILE, _STATUS_FILE):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times)


def _trains(config: Mapping[str, Any]) -> str | None:
    if "student" in config:
        return "student"
    teacher = config.get("teacher")
    return f"teacher {teacher}" if isinstance(teacher, str) else None


def _patience(config: Mapping[str, Any], metrics: Mapping[str, float]) -> float:
    """Returns for how many seconds a run may write nothing and yet be running."""
    try:
        row_images = config["log_every"] * config["data"]["batch_size"]
        row_seconds = row_images / metrics["images_per_second"]
    except (KeyError, TypeError, ZeroDivisionError):
        return _PATIENCE_SECONDS
    # Not NaN, which nothing is larger than.
    return max(_PATIENCE_SECONDS, _PATIENCE_ROWS * row_seconds)


def _guess(
    step: int,
    num_steps: int | None,
    metrics: Mapping[str, float],
    *,
    is_silent: bool,
) -> State:
    """Returns the state of a run that does not tell it."""
    if math.isnan(metrics.get("loss", 0.0)):
        return "dead"
    if num_steps is not None and step >= num_steps:
        return "finished"
    return "stopped" if is_silent else "running"
