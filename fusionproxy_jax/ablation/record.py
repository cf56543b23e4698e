"""The folder of an ablation: ablation.json says what its rows are and where they train.

Rows of one cache and one compiled program train together, as a sweep of their own in
sweeps/LETTERS. Rows asked for later get sweeps of their own; those that were begun
together go on together.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionproxy_jax.config import Config, to_json
from fusionproxy_jax.config.identity import differences
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.folder import make_folder, member_dir, read_json, write_json

if TYPE_CHECKING:
    from fusionproxy_jax.ablation.plan import PlannedRow

_FILE = "ablation.json"


@dataclass(frozen=True)
class Record:
    """What ablation.json holds.

    Attributes:
        table: Number of the table.
        base: The default configuration, as nested dicts.
        panel: Names of the backbones.
        rows: Letter -> title, member, cache and student of every row.
        caches: Name of a cache -> what is told of it (`describe_cache`).
        sweeps: Name of a sweep -> its members.
    """

    table: int
    base: dict[str, Any]
    panel: list[str]
    rows: dict[str, dict[str, Any]]
    caches: dict[str, dict[str, Any]] = field(default_factory=dict)
    sweeps: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        table: int,
        base: Config,
        backbones: Sequence[str],
        planned: "Mapping[str, PlannedRow]",
    ) -> "Record":
        """Returns the record of an ablation nothing of which is trained."""
        rows = {
            letter: {
                "title": row.title,
                "member": row.member,
                "cache": row.cache,
                "student": dataclasses.asdict(row.config.student),
            }
            for letter, row in planned.items()
        }
        # Through JSON, so that it equals what is read back.
        rows, values = json.loads(json.dumps([rows, json.loads(to_json(base))]))
        return cls(table, values, list(backbones), rows)

    def write(self, workdir: Path) -> None:
        """Writes ablation.json.

        Raises:
            FusionProxyError: The folder cannot be made.
        """
        make_folder(workdir)
        write_json(workdir / _FILE, dataclasses.asdict(self))

    def run_dir(self, workdir: Path, letter: str) -> Path | None:
        """Returns the run folder of a row, None when it was never begun."""
        if letter not in self.rows:
            return None
        member = self.rows[letter]["member"]
        for name, members in self.sweeps.items():
            if member in members:
                return member_dir(sweep_dir(workdir, name), member)
        return None

    @property
    def placed(self) -> set[str]:
        """Members that have a sweep."""
        return {member for members in self.sweeps.values() for member in members}

    def with_sweeps(self, groups: Iterable[Iterable[str]]) -> "Record":
        """Returns a record with more sweeps, each of the members of a group."""
        new = {"".join(members): list(members) for members in map(list, groups)}
        return dataclasses.replace(self, sweeps=self.sweeps | new)


def sweep_dir(workdir: Path, name: str) -> Path:
    """Returns the folder of a sweep."""
    return workdir / "sweeps" / name


def read_record(workdir: Path) -> Record | None:
    """Returns the record of a folder; None if there is none.

    Raises:
        FusionProxyError: It is damaged.
    """
    path = workdir / _FILE
    if not path.exists():
        return None
    try:
        return Record(**read_json(path))
    except TypeError as error:
        raise FusionProxyError(
            f"{path} is damaged; choose another --workdir, or delete this one"
        ) from error


def begun(workdir: Path, wanted: Record) -> Record:
    """Returns the record of what was begun in a folder, or `wanted` in a new one.

    Raises:
        FusionProxyError: Another ablation was begun there.
    """
    found = read_record(workdir)
    if found is None:
        return wanted
    changes = differences(found.base, wanted.base)
    if found.table != wanted.table:
        changes.insert(0, f"the table was {found.table} and is now {wanted.table}")
    if found.panel != wanted.panel:
        old, new = (", ".join(one.panel) or "none" for one in (found, wanted))
        changes.append(f"the panel was {old} and is now {new}")
    if not changes and not _same_runs(found, wanted):
        changes.append("its rows are those of another version")
    if changes:
        raise FusionProxyError(
            f"{workdir} holds another ablation: {'; '.join(changes[:3])}; give the old "
            "settings or another --workdir"
        )
    # As they are called now; later versions may have more of them.
    return dataclasses.replace(found, rows=wanted.rows)


def _same_runs(found: Record, wanted: Record) -> bool:
    """Returns whether rows are trained as they were, whatever they are called."""
    return all(
        row[name] == wanted.rows.get(letter, {}).get(name)
        for letter, row in found.rows.items()
        for name in ("member", "cache", "student")
    )
