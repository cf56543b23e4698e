"""Cuts the pictures that runs draw of their progress into parts, to arrange anew.

A run's `pictures/<step>.png` has a row a held-out pair: visible, infrared, fused. Its
`pictures/routing-<step>.png` has a row a tile: visible, infrared, the weights of every
backbone, entropy; all square. Both are contact sheets of the usual cells.
"""

from pathlib import Path

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.images import read_visible

# Of `contact_sheet` by default.
CELL_PX, GAP_PX = 320, 8
_PITCH_PX = CELL_PX + GAP_PX


def newest_sheet(directory: Path, pattern: str) -> np.ndarray | None:
    """Returns the last of a run's pictures as RGB; None without a whole one.

    Args:
        directory: The run's folder.
        pattern: Of the file's name in pictures/.
    """
    for path in sorted((directory / "pictures").glob(pattern), reverse=True):
        try:
            sheet = read_visible(path)
        except FusionProxyError:
            continue
        if sheet.dtype == np.uint8 and num_columns(sheet) >= 3:
            return sheet
    return None


def num_columns(sheet: np.ndarray) -> int:
    """Returns how many cells stand beside each other."""
    return (sheet.shape[1] - GAP_PX) // _PITCH_PX


def column(sheet: np.ndarray, number: int) -> np.ndarray:
    """Returns a column of cells with their labels, from top to bottom."""
    left = GAP_PX + number * _PITCH_PX
    return sheet[:, left : left + CELL_PX]


def square_cells(sheet: np.ndarray) -> list[list[np.ndarray]]:
    """Returns the cells of a sheet of square pictures, row by row, without labels."""
    height = sheet.shape[0] - GAP_PX
    # A label takes less than half a cell.
    num_rows = max(1, height // _PITCH_PX)
    rows = []
    for row in range(num_rows):
        bottom = (row + 1) * height // num_rows
        rows.append(
            [
                column(sheet[bottom - CELL_PX : bottom], number)
                for number in range(num_columns(sheet))
            ]
        )
    return rows
