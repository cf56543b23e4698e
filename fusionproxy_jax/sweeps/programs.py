"""Which members train in one compiled program, and which task of an array has which."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.knobs import static_settings


@dataclass(frozen=True)
class Program:
    """Members that differ only in numbers which one compiled step takes as arrays."""

    members: Mapping[str, Config]

    @property
    def id(self) -> str:
        """16 hex digits of the members' names and of what they have in common."""
        shared = static_settings(next(iter(self.members.values())))
        text = json.dumps([shared, list(self.members)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def programs_of(members: Mapping[str, Config]) -> list[Program]:
    """Returns the fewest programs that hold all members, in the members' order."""
    groups: dict[str, dict[str, Config]] = {}
    for name, config in members.items():
        key = json.dumps(static_settings(config), sort_keys=True)
        groups.setdefault(key, {})[name] = config
    return [Program(group) for group in groups.values()]


def share_of(
    members: Mapping[str, Config], index: int | None, count: int | None
) -> dict[str, Config]:
    """Returns the members of task `index` of `count`; of no array, all of them.

    Members of one program stand together before they are cut into runs of equal length,
    give or take one, so that a task has as few programs as can be. Every member is in
    one task; with more tasks than members some have none.

    Raises:
        FusionProxyError: One of both numbers is missing, or there is no such task.
    """
    if (index is None) != (count is None):
        raise FusionProxyError(
            f"--index is {index} and --count is {count}; give both or none of them"
        )
    if index is None or count is None:
        return dict(members)
    if count < 1 or not 0 <= index < count:
        raise FusionProxyError(
            f"--index is {index} of --count {count}; tasks are numbered from 0 to "
            "--count - 1"
        )
    ordered = [
        (name, config)
        for program in programs_of(members)
        for name, config in program.members.items()
    ]
    start, stop = (len(ordered) * (index + i) // count for i in range(2))
    return dict(ordered[start:stop])
