"""What a member of a sweep leaves beside an ordinary run: status.json, scores.json.

A member is written by one task and read at any moment: readers take what is missing,
half-written or damaged for not being there.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fusionproxy_jax.config.checks import check_types
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.folder import make_folder, read_json, write_json

State = Literal["running", "stopped", "finished", "dead"]
ENDED = ("finished", "dead")


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a member stands.

    Attributes:
        state: `dead` when its loss, gradient or parameters became NaN or infinite.
        step: Updates made, of a dead one the good ones.
        num_steps: Updates wanted.
        died_at: Step of the first bad update of a dead one.
        program: Id of the program it trains in.
        num_members: How many train in it.
        seconds_per_step: Of the whole program, compilation left out; None before two
            steps were timed.
        device: What it trains on.
    """

    state: State
    step: int
    num_steps: int
    died_at: int | None
    program: str
    num_members: int
    seconds_per_step: float | None
    device: str

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train."""
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Means of the fusion metrics over held-out pairs."""

    num_pairs: int
    scores: Mapping[str, float]


def write_status(directory: Path, status: Status) -> None:
    """Writes status.json of a member's folder, which is made when missing."""
    make_folder(directory)
    write_json(directory / "status.json", dataclasses.asdict(status))


def read_status(directory: Path) -> Status | None:
    """Returns where a member stands; None where that is not known."""
    try:
        status = Status(**read_json(directory / "status.json"))
        check_types(status)
    except (TypeError, FusionProxyError):
        return None
    return status


def write_scores(directory: Path, scores: Scores) -> None:
    """Writes scores.json of a member's folder."""
    values = {
        # JSON knows no NaN.
        name: value if math.isfinite(value) else None
        for name, value in scores.scores.items()
    }
    write_json(
        directory / "scores.json", {"num_pairs": scores.num_pairs, "scores": values}
    )


def read_scores(directory: Path) -> Scores | None:
    """Returns a member's scores, those that are numbers; None without any."""
    values = read_json(directory / "scores.json")
    scores = values.get("scores")
    if not isinstance(scores, dict) or not isinstance(values.get("num_pairs"), int):
        return None
    return Scores(num_pairs=values["num_pairs"], scores=_numbers(scores))


def read_metrics(directory: Path) -> list[dict[str, float]]:
    """Returns the rows of metrics.jsonl up to a damaged one, non-finite values NaN."""
    try:
        lines = (directory / "metrics.jsonl").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(
            {
                name: math.nan if value is None else value
                for name, value in row.items()
                if value is None or isinstance(value, int | float)
            }
        )
    return rows


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
