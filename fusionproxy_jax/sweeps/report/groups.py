"""Members that differ in nothing but seeds, as one: means and spreads."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusionproxy_jax.sweeps.report.gather import SEEDS, MemberRecord, SweepRecord


@dataclass(frozen=True, kw_only=True)
class Group:
    """Members of equal settings but for their seeds."""

    settings: Mapping[str, Any]
    """Those that vary between groups."""
    members: tuple[MemberRecord, ...]

    @property
    def finished(self) -> tuple[MemberRecord, ...]:
        """Those whose numbers count."""
        return tuple(member for member in self.members if member.is_finished)

    def values(self, name: str) -> list[float]:
        """Returns the value of every finished member that has a finite one.

        Args:
            name: A metric of the held-out pairs, or of training at its end.
        """
        found = [
            {**one.last, **one.scores}.get(name, math.nan) for one in self.finished
        ]
        return [value for value in found if math.isfinite(value)]


def groups_of(record: SweepRecord) -> tuple[Group, ...]:
    """Returns the groups, by rising settings; none where no seed varies."""
    if SEEDS.isdisjoint(record.varied):
        return ()
    names = tuple(name for name in record.varied if name not in SEEDS)
    found: dict[tuple, list[MemberRecord]] = {}
    for member in record.members:
        # Lists, which tuples became in JSON, cannot be keys.
        key = tuple(str(member.settings.get(name)) for name in names)
        found.setdefault(key, []).append(member)
    groups = [
        Group(
            settings={name: members[0].settings.get(name) for name in names},
            members=tuple(members),
        )
        for members in found.values()
    ]
    return tuple(sorted(groups, key=lambda group: sort_key(group.settings.values())))


def sort_key(values: Any) -> tuple:
    """Returns a key that puts numbers first, by size, and everything else by text."""
    return tuple(
        (0, float(value), "") if is_number(value) else (1, 0.0, str(value))
        for value in values
    )


def is_number(value: Any) -> bool:
    """Returns whether a setting is a number and no switch."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def mean(values: Sequence[float]) -> float | None:
    """Returns the mean; None of nothing."""
    return statistics.fmean(values) if values else None


def spread(values: Sequence[float]) -> float | None:
    """Returns the sample standard deviation; None of less than two."""
    return statistics.stdev(values) if len(values) > 1 else None
