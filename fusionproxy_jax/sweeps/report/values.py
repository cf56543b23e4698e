"""report.json: everything that the tables of a report say, unrounded."""

import math
from collections.abc import Sequence
from typing import Any

from fusionproxy_jax.evaluation.metrics import METRICS
from fusionproxy_jax.sweeps.report.best import Criterion
from fusionproxy_jax.sweeps.report.gather import MemberRecord, SweepRecord
from fusionproxy_jax.sweeps.report.groups import Group, groups_of, mean, spread

_LOSSES = ("loss", "pixel_loss", "alignment_loss", "structure_loss")
_ROUTING = ("routing_entropy", "routing_weight/")


def training_columns(members: Sequence[MemberRecord]) -> tuple[str, ...]:
    """Returns the names of the training metrics that the tables show."""
    found = dict.fromkeys(name for member in members for name in member.last)
    routing = [name for name in found if name.startswith(_ROUTING)]
    return (*(name for name in _LOSSES if name in found), *routing)


def report_values(record: SweepRecord, criterion: Criterion) -> dict[str, Any]:
    """Returns the report as strict JSON has it: an infinite setting is text."""
    columns = training_columns(record.members)
    return {
        "criterion": criterion.described,
        "best": criterion.best(criterion.values(record.members).items()),
        "varied": list(record.varied),
        "members": {
            member.name: _member_values(member, record.varied, columns)
            for member in record.members
        },
        "groups": [
            _group_values(group, (*columns, *METRICS)) for group in groups_of(record)
        ],
    }


def _member_values(
    member: MemberRecord, varied: Sequence[str], columns: Sequence[str]
) -> dict[str, Any]:
    status = member.status
    return {
        "settings": {name: _setting(member.settings.get(name)) for name in varied},
        "state": "not begun" if status is None else status.state,
        "step": None if status is None else status.step,
        "num_steps": None if status is None else status.num_steps,
        "died_at": None if status is None else status.died_at,
        "device": None if status is None else status.device,
        "seconds_per_member_step": member.seconds_per_member_step,
        "training": {
            name: member.last[name]
            for name in columns
            if math.isfinite(member.last.get(name, math.nan))
        },
        "num_pairs": member.num_pairs,
        "scores": dict(member.scores),
    }


def _group_values(group: Group, names: Sequence[str]) -> dict[str, Any]:
    return {
        "settings": {name: _setting(value) for name, value in group.settings.items()},
        "members": [member.name for member in group.members],
        "num_finished": len(group.finished),
        "mean": {name: mean(group.values(name)) for name in names},
        "spread": {name: spread(group.values(name)) for name in names},
    }


def _setting(value: Any) -> Any:
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
