"""report.md: the tables of a sweep's report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fusionproxy_jax.evaluation.metrics import METRICS
from fusionproxy_jax.sweeps.report.best import Criterion
from fusionproxy_jax.sweeps.report.gather import SweepRecord
from fusionproxy_jax.sweeps.report.groups import Group, groups_of, mean, spread
from fusionproxy_jax.sweeps.report.values import training_columns


def report_markdown(
    record: SweepRecord,
    criterion: Criterion,
    *,
    pictures: Mapping[str, str],
    notes: Sequence[str],
) -> str:
    """Returns report.md.

    Args:
        record: The sweep.
        criterion: What is best.
        pictures: File name -> caption, of the pictures beside the report.
        notes: Sentences on what is not there.
    """
    members, columns = record.members, training_columns(record.members)
    finished = sum(member.is_finished for member in members)
    lines = [
        "# Sweep",
        "",
        f"{finished} of {len(members)} members are finished. "
        + (
            f"Settings that differ: {', '.join(record.varied)}."
            if record.varied
            else "There is one setting only."
        ),
        "",
        best_sentence(record, criterion),
        "",
    ]
    if groups := groups_of(record):
        lines += [
            "## Over seeds",
            "",
            "Means of the finished members ± the sample standard deviation.",
            "",
            *_grid(_group_rows(groups, columns)),
            "",
        ]
    lines += [
        "## Training",
        "",
        "The last report of each: means over the steps since the one before.",
        "",
        *_grid(_training_rows(record, columns)),
        "",
        "## Held-out pairs",
        "",
        *_grid(_score_rows(record)),
        "",
    ]
    for file, caption in pictures.items():
        lines += [f"![{caption}]({file})", "", f"{caption}.", ""]
    return "\n".join([*lines, *notes]).rstrip() + "\n"


def best_sentence(record: SweepRecord, criterion: Criterion) -> str:
    """Returns which member is best, by what, and which group."""
    values = criterion.values(record.members)
    best = criterion.best(values.items())
    if best is None:
        return f"No best member yet, by {criterion.described}: no finished one has it."
    sentence = f"Best by {criterion.described}: {best} ({_cell(values[best])})"
    means = {}
    for group in groups_of(record):
        found = [values[one.name] for one in group.members if one.name in values]
        if found and group.settings:
            means[_settings_text(group.settings)] = mean(found)
    if len(means) > 1 and (first := criterion.best(means.items())):
        sentence += f"; by the mean over seeds: {first} ({_cell(means[first])})"
    return f"{sentence}."


def _group_rows(groups: Sequence[Group], columns: Sequence[str]) -> list[list[str]]:
    names = [
        name for name in (*columns, *METRICS) if any(g.values(name) for g in groups)
    ]
    header = [*groups[0].settings, "finished", *names]
    rows = [
        [
            *map(setting_text, group.settings.values()),
            f"{len(group.finished)} of {len(group.members)}",
            *(_with_spread(group.values(name)) for name in names),
        ]
        for group in groups
    ]
    return [header, *rows]


def _training_rows(record: SweepRecord, columns: Sequence[str]) -> list[list[str]]:
    header = ["member", *record.varied, "state", *columns, "s per member-step"]
    rows = [
        [
            member.name,
            *(setting_text(member.settings.get(name)) for name in record.varied),
            member.state,
            *(_cell(member.last.get(name)) for name in columns),
            _cell(member.seconds_per_member_step),
        ]
        for member in record.members
    ]
    return [header, *rows]


def _score_rows(record: SweepRecord) -> list[list[str]]:
    header = ["member", *record.varied, "pairs", *METRICS]
    rows = [
        [
            member.name,
            *(setting_text(member.settings.get(name)) for name in record.varied),
            "" if member.num_pairs is None else str(member.num_pairs),
            *(_cell(member.scores.get(name)) for name in METRICS),
        ]
        for member in record.members
    ]
    return [header, *rows]


def _grid(rows: Sequence[Sequence[str]]) -> list[str]:
    header, *rest = rows
    lines = [header, ["---"] * len(header), *rest]
    return [
        f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines
    ]


def setting_text(value: Any) -> str:
    """Returns a setting as a cell."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _settings_text(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={setting_text(v)}" for name, v in settings.items())


def _cell(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _with_spread(values: Sequence[float]) -> str:
    deviation = spread(values)
    if deviation is None:
        return _cell(mean(values))
    return f"{_cell(mean(values))} ± {deviation:.2g}"
