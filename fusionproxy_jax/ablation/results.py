"""What is known of every row of an ablation, from what lies in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionproxy_jax.ablation.paper import paper_numbers
from fusionproxy_jax.ablation.record import Record
from fusionproxy_jax.ablation.rows import Row
from fusionproxy_jax.ablation.speed_file import student_key
from fusionproxy_jax.sweeps.member_files import Status, read_scores, read_status

NOT_COMPUTED = ("MUSIQ", "DeQA", "det. mAP", "seg. mIoU")
"""Columns of the paper that need packages or data which are not here."""
METRICS = ("Qabf", "VIF", "MI", "SF", "EN", "SSIM")
"""Of the nine fusion metrics, those of the paper's Table 1 and two more."""
COST = ("parameters", "frames/s")
OURS = (*NOT_COMPUTED, *METRICS, *COST)
"""Our columns."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the table; what is not known is None or missing."""

    row: str
    block: str
    title: str
    same_as: str | None
    """The row that stands for it, where another has the same settings."""
    state: str
    paper: Mapping[str, float]
    ours: Mapping[str, float | None]
    num_pairs: int | None
    seconds_per_step: float | None
    device: str | None
    cache: str | None
    run: str | None
    """Its run folder, below the ablation's."""


def gather(
    workdir: Path, record: Record, rows: Mapping[str, Row], speeds: Mapping[str, Any]
) -> list[Result]:
    """Returns a result for every row of the table, trained or not.

    Args:
        workdir: Folder of the ablation.
        record: What it holds.
        rows: Those of the table.
        speeds: What `read_speeds` found.
    """
    return [
        _result(workdir, record, letter, row, speeds) for letter, row in rows.items()
    ]


def _result(
    workdir: Path,
    record: Record,
    letter: str,
    row: Row,
    speeds: Mapping[str, Any],
) -> Result:
    known = record.rows.get(letter, {})
    run = record.run_dir(workdir, letter)
    status = None if run is None else read_status(run)
    scores = None if run is None else read_scores(run)
    finished = status is not None and status.state == "finished"
    ours: dict[str, float | None] = dict.fromkeys(OURS)
    if finished and scores is not None:
        # Those of the paper too, where somebody has scored them.
        ours |= {name: scores.scores.get(name) for name in (*NOT_COMPUTED, *METRICS)}
    if "student" in known:
        cost = speeds.get("students", {}).get(student_key(known["student"]), {})
        ours["parameters"] = cost.get("parameters")
        ours["frames/s"] = cost.get("frames_per_second")
    member = known.get("member")
    return Result(
        row=letter,
        block=row.block,
        title=known.get("title", "needs a panel, and there is none"),
        same_as=member if member != letter else None,
        state=_state(status, scored=scores is not None),
        paper=paper_numbers(letter),
        ours=ours,
        num_pairs=None if scores is None else scores.num_pairs,
        seconds_per_step=None if status is None else status.seconds_per_step,
        device=None if status is None else status.device,
        cache=known.get("cache"),
        run=None if run is None else run.relative_to(workdir).as_posix(),
    )


def _state(status: Status | None, *, scored: bool) -> str:
    if status is None:
        return "not run"
    if status.state == "dead":
        return f"died at step {status.died_at}"
    if status.state == "finished":
        return "finished" if scored else "finished, no scores"
    return f"{status.state}, step {status.step} of {status.num_steps}"
