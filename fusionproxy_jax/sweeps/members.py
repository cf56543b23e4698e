"""The members of a sweep: configurations by name, from a file that makes them."""

import re
import runpy
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusionproxy_jax.config import Config, to_json
from fusionproxy_jax.config.checks import check_types
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.overrides import override

# A name is a folder's; one that begins with a dot would be hidden.
_NAME = re.compile(r"[A-Za-z0-9=,_+-][A-Za-z0-9=.,_+-]*")


def load_sweep(path: str | Path, assignments: Sequence[str] = ()) -> dict[str, Config]:
    """Returns what `sweep() -> dict[str, Config]` of a Python file makes.

    Args:
        path: The file.
        assignments: `KEY=VALUE` for every member, see `override`.

    Raises:
        FusionProxyError: There is no such file or no sweep() in it, it fails, its
            members are none that can be trained side by side, or an assignment is none
            that they take.
    """
    path = Path(path)
    if not path.is_file():
        raise FusionProxyError(f"no sweep file at {path}; see experiments/sweeps/")
    try:
        names = runpy.run_path(str(path))
        if "sweep" not in names:
            raise FusionProxyError(
                f"{path} defines no sweep() -> dict of names and Configs"
            )
        members = names["sweep"]()
    except FusionProxyError:
        raise
    # The file is the user's own: whatever it raises is a mistake in it.
    except Exception as error:
        raise FusionProxyError(
            f"{path} fails{_line(error, path)}: {type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    check_members(members, source=f"sweep() of {path}")
    if not assignments:
        return dict(members)
    changed = {name: override(config, assignments) for name, config in members.items()}
    check_members(changed, source=f"sweep() of {path} with --set")
    return changed


def check_members(members: Any, *, source: str) -> None:
    """Refuses what is no dict of configurations, with what `source` calls it.

    Raises:
        FusionProxyError: Not a dict of Configs, an empty one, names that are no
            folder's, values of a wrong type, or two members that would be the same run.
    """
    if not isinstance(members, Mapping) or not all(
        isinstance(name, str) and isinstance(config, Config)
        for name, config in members.items()
    ):
        raise FusionProxyError(
            f"{source} is {_described(members)}; it must be a dict of names and Configs"
        )
    if not members:
        raise FusionProxyError(f"{source} has no members; return at least one Config")
    for name, config in members.items():
        if not _NAME.fullmatch(name):
            raise FusionProxyError(
                f"{source} has a member {name!r}, but names are folders; use letters, "
                "digits and = . , _ + - only, and no dot first"
            )
        try:
            check_types(config)
        except FusionProxyError as error:
            raise FusionProxyError(f"member {name} of {source}: {error}") from error
    first: dict[str, str] = {}
    for name, config in members.items():
        other = first.setdefault(to_json(config), name)
        if other != name:
            raise FusionProxyError(
                f"{source} has two members of the same settings, {other} and {name}; "
                "leave one away or give it another seed"
            )


def _described(members: Any) -> str:
    if not isinstance(members, Mapping):
        return f"a {type(members).__name__}"
    kinds = {
        f"{type(name).__name__} to {type(config).__name__}"
        for name, config in members.items()
    }
    return f"a dict of {', '.join(sorted(kinds))}"


def _line(error: Exception, path: Path) -> str:
    """Returns where in the file an error came from, if it did."""
    if isinstance(error, SyntaxError):
        return f" in line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return f" in line {lines[-1]}" if lines else ""
