"""Which table, and which rows of it, a text asks for."""

import re
from collections.abc import Mapping

from fusionproxy_jax.ablation.rows import TABLE_4, Row
from fusionproxy_jax.errors import FusionProxyError

_TABLES = {4: TABLE_4}
_RANGE = re.compile(r"([a-z])(?:-([a-z]))?")


def table_rows(table: int) -> Mapping[str, Row]:
    """Returns the rows of a table of the paper.

    Raises:
        FusionProxyError: It is none of its ablations.
    """
    if table not in _TABLES:
        raise FusionProxyError(
            f"--table is {table}; the paper's ablation is Table "
            f"{', '.join(map(str, _TABLES))}"
        )
    return _TABLES[table]


def parse_rows(text: str, rows: Mapping[str, Row]) -> tuple[str, ...]:
    """Returns the letters of a text such as `a-l`, `a,c,e-h` or `all`, in their order.

    Raises:
        FusionProxyError: A part is no letter or range of letters of the table.
    """
    letters = list(rows)
    if text.strip().lower() == "all":
        return tuple(letters)
    wanted: set[str] = set()
    for part in text.lower().split(","):
        found = _RANGE.fullmatch(part.strip())
        first, last = (found[1], found[2] or found[1]) if found else ("", "")
        if first not in rows or last not in rows or first > last:
            raise FusionProxyError(
                f"--rows names {part.strip()!r}; rows are {letters[0]} to "
                f"{letters[-1]}, written as a-l, a,c,e-h or all"
            )
        wanted.update(letters[letters.index(first) : letters.index(last) + 1])
    return tuple(letter for letter in letters if letter in wanted)
