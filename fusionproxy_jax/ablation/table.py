"""table.md and table.json of an ablation: its rows beside the paper's."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from fusionproxy_jax.ablation.caveats import caveats
from fusionproxy_jax.ablation.paper import BLOCKS, COLUMNS
from fusionproxy_jax.ablation.record import read_record
from fusionproxy_jax.ablation.results import COST, METRICS, OURS, Result, gather
from fusionproxy_jax.ablation.selection import table_rows
from fusionproxy_jax.ablation.speed_file import read_speeds
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.sweeps.folder import write_json

_DIGITS = {"FPS 4070": 0, "DeQA": 2, "SF": 2, "EN": 2, "MI": 2, "frames/s": 1}


@dataclasses.dataclass(frozen=True)
class Table:
    """What was written."""

    path: Path
    """Of table.md."""
    num_done: int
    """Rows with scores."""
    num_rows: int


def write_table(workdir: str | Path) -> Table:
    """Writes table.md and table.json of what lies in an ablation's folder.

    Raises:
        FusionProxyError: There is no ablation in the folder, or it cannot be written.
    """
    workdir = Path(workdir)
    record = read_record(workdir)
    if record is None:
        raise FusionProxyError(
            f"{workdir} holds no ablation; make one with `fusionproxy ablate "
            f"--cache-dir DIR --workdir {workdir}`"
        )
    speeds = read_speeds(workdir)
    results = gather(workdir, record, table_rows(record.table), speeds)
    told = caveats(record, results, speeds)
    values = {
        "table": record.table,
        "rows": [dataclasses.asdict(one) for one in results],
        "base": record.base,
        "panel": record.panel,
        "caches": record.caches,
        "speed": speeds,
        "caveats": told,
    }
    write_json(workdir / "table.json", values)
    path = workdir / "table.md"
    with atomic_path(path) as temporary:
        temporary.write_text(_markdown(record.table, results, told))
    done = sum(one.ours[METRICS[0]] is not None for one in results)
    return Table(path, done, len(results))


def _markdown(table: int, results: Sequence[Result], told: Sequence[str]) -> str:
    heads = [
        "row",
        "variant",
        *(f"{name} (paper)" for name in COLUMNS),
        *OURS,
        "state",
    ]
    lines = [
        f"# Table {table} of the paper, and ours",
        "",
        "Empty cells were not measured.",
    ]
    for block, title in BLOCKS.items():
        rows = [one for one in results if one.block == block]
        if not rows:
            continue
        rule = ["---", "---", *["---:"] * (len(heads) - 3), "---"]
        lines += ["", f"## {block}: {title}", "", _line(heads), _line(rule)]
        lines += [_line(_cells(one)) for one in rows]
    lines += ["", "## Caveats", "", *(f"- {sentence}" for sentence in told), ""]
    return "\n".join(lines)


def _cells(one: Result) -> list[str]:
    same = f" (= {one.same_as})" if one.same_as else ""
    return [
        f"({one.row})",
        one.title + same,
        *(_number(name, one.paper.get(name)) for name in COLUMNS),
        *(_number(name, one.ours[name]) for name in OURS),
        one.state,
    ]


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == COST[0]:
        return f"{value / 1e6:.2f} M"
    return f"{value:.{_DIGITS.get(name, 3 if name in METRICS else 1)}f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
