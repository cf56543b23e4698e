"""pictures.png and routing.png: what members make of the same pairs and tiles."""

import math
from pathlib import Path

import numpy as np

from fusionproxy_jax.evaluation.contact_sheet import contact_sheet
from fusionproxy_jax.runtime.images import write_image
from fusionproxy_jax.sweeps.report.gather import (
    TEMPERATURE,
    MemberRecord,
    SweepRecord,
)
from fusionproxy_jax.sweeps.report.sheets import (
    CELL_PX,
    column,
    newest_sheet,
    square_cells,
)

_FUSED = 2
_MEMBERS_ABREAST = 8
_TILES = 2
_EMPTY = 230


def draw_pictures(record: SweepRecord, path: Path) -> bool:
    """Writes the held-out pairs as every member fuses them, in a column each.

    A member without pictures has an empty cell. Returns whether there are any.

    Raises:
        FusionProxyError: The file cannot be written.
    """
    sheets = {
        one.name: newest_sheet(one.directory, "[0-9]*.png") for one in record.members
    }
    there = [sheet for sheet in sheets.values() if sheet is not None]
    if not there:
        return False
    empty = np.full((CELL_PX, CELL_PX, 3), _EMPTY, np.uint8)
    cells = [("sources", column(there[0], 0)), ("", column(there[0], 1))]
    cells += [
        (name, empty if sheet is None else column(sheet, _FUSED))
        for name, sheet in sheets.items()
    ]
    rows = [
        cells[start : start + _MEMBERS_ABREAST]
        for start in range(0, len(cells), _MEMBERS_ABREAST)
    ]
    write_image(path, contact_sheet(rows, cell_width_px=CELL_PX))
    return True


def draw_routing(record: SweepRecord, path: Path) -> bool:
    """Writes the routing maps of the same tiles, a row a temperature.

    Returns whether there are any: a run draws them where it aligns to a panel.

    Raises:
        FusionProxyError: The file cannot be written.
    """
    found: dict[str, tuple[list[str], list[list[np.ndarray]]]] = {}
    for member in sorted(record.members, key=_temperature):
        text = _routing_text(member)
        sheet = newest_sheet(member.directory, "routing-*.png")
        if text not in found and sheet is not None:
            found[text] = _backbones(member), square_cells(sheet)
    rows = [
        _row(text, names, tiles[number])
        for number in range(_TILES)
        for text, (names, tiles) in found.items()
        if number < len(tiles)
    ]
    if not rows:
        return False
    write_image(path, contact_sheet(rows, cell_width_px=240))
    return True


def _row(
    text: str, names: list[str], cells: list[np.ndarray]
) -> list[tuple[str, np.ndarray]]:
    labels = [text, "", *names, "entropy"]
    if len(labels) != len(cells):
        labels = [text, *[""] * (len(cells) - 1)]
    return list(zip(labels, cells, strict=True))


def _backbones(member: MemberRecord) -> list[str]:
    """Returns the names in the order k, without the tensor of an ONNX network."""
    prefix = "routing_weight/"
    return [
        name.removeprefix(prefix).partition("#")[0]
        for name in member.last
        if name.startswith(prefix)
    ]


def _temperature(member: MemberRecord) -> float:
    return math.inf if member.temperature is None else float(member.temperature)


def _routing_text(member: MemberRecord) -> str:
    if member.temperature is None:
        return str(member.settings.get("loss.routing"))
    start = member.settings.get(TEMPERATURE)
    if start == member.temperature:
        return f"tau {start:g}"
    return f"tau {start:g} to {member.temperature:g}"
