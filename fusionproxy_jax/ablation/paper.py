"""What the paper's Table 4 says: blocks, and the numbers of rows a to l."""

from collections.abc import Mapping
from types import MappingProxyType

COLUMNS = ("FPS 4070", "MUSIQ", "DeQA", "det. mAP", "seg. mIoU")
"""Frames a second of an RTX 4070, two learned image qualities, two tasks downstream."""

_FULL = (84.0, 48.2, 2.38, 75.2, 65.4)
_TABLE_4 = MappingProxyType(
    {
        "a": (84.0, 42.7, 2.10, 72.0, 61.5),
        "b": (84.0, 46.5, 2.28, 74.1, 63.8),
        "c": _FULL,
        "d": (84.0, 42.5, 2.09, 71.8, 61.0),
        "e": (84.0, 45.7, 2.21, 73.5, 63.2),
        "f": (84.0, 46.9, 2.30, 74.4, 64.3),
        "g": (84.0, 47.0, 2.31, 74.5, 64.6),
        "h": _FULL,
        "i": (198.0, 41.5, 1.78, 63.1, 51.6),
        "j": (101.0, 46.8, 2.32, 73.8, 63.9),
        "k": (122.0, 46.1, 2.28, 72.5, 62.7),
        "l": _FULL,
    }
)

BLOCKS = MappingProxyType(
    {
        "A": "Teacher ensemble",
        "B": "Dual-signal supervision",
        "C": "Student backbone",
        "D": "What the paper leaves open",
    }
)
"""Blocks of the table; D is not the paper's."""


def paper_numbers(letter: str) -> Mapping[str, float]:
    """Returns column -> number of a row; nothing for those the paper has not."""
    return dict(zip(COLUMNS, _TABLE_4.get(letter, ()), strict=False))
