"""curves.png: loss terms and routing entropy against the step, a line a member."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from fusionproxy_jax.sweeps.report.charts import (
    Colouring,
    colouring,
    new_figure,
    save_figure,
)
from fusionproxy_jax.sweeps.report.gather import MemberRecord, SweepRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METRICS = (
    "loss",
    "pixel_loss",
    "alignment_loss",
    "structure_loss",
    "routing_entropy",
)
_COLUMNS = 3


def draw_curves(record: SweepRecord, path: Path) -> bool:
    """Writes the chart; returns whether there was anything to draw.

    Raises:
        FusionProxyError: Matplotlib is not installed, or the file cannot be written.
    """
    lines = {
        metric: {one.name: _points(one, metric) for one in record.members}
        for metric in _METRICS
    }
    shown = [metric for metric in _METRICS if any(lines[metric].values())]
    if not shown:
        return False
    columns, rows = min(len(shown), _COLUMNS), math.ceil(len(shown) / _COLUMNS)
    figure = new_figure(4.2 * columns + 1.5, 3.4 * rows)
    colours = colouring(record)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, metric in zip(axes, shown, strict=False):
        axis.set_title(metric)
        _draw(axis, record, lines[metric], colours)
        _scale(axis, metric, lines[metric])
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    if len(colours.colours) > 1:
        figure.legend(
            [axes[0].plot([], [], color=one)[0] for one in colours.colours.values()],
            list(colours.colours),
            title=colours.setting,
            loc="outside right upper",
        )
    save_figure(figure, path)
    return True


def _points(member: MemberRecord, metric: str) -> list[tuple[float, float]]:
    """Returns (step, value), up to where a member died."""
    return [
        (row["step"], row[metric])
        for row in member.rows
        if math.isfinite(row.get(metric, math.nan))
    ]


def _draw(
    axis: "Axes",
    record: SweepRecord,
    lines: dict[str, list[tuple[float, float]]],
    colours: Colouring,
) -> None:
    for member in record.members:
        points = lines[member.name]
        if not points:
            continue
        colour = colours.of(member.name)
        axis.plot(*zip(*points, strict=True), color=colour, linewidth=1.2)
        if member.status is not None and member.status.state == "dead":
            axis.plot(*points[-1], "x", color=colour)


def _scale(
    axis: "Axes", metric: str, lines: dict[str, list[tuple[float, float]]]
) -> None:
    axis.set_xlabel("step")
    axis.grid(alpha=0.3)
    if metric == "routing_entropy":
        axis.set_ylim(-0.03, 1.03)
    elif all(value > 0 for points in lines.values() for _, value in points):
        axis.set_yscale("log")
