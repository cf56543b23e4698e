"""The folder of a sweep: where things lie, and which sweep it holds.

Files appear whole or not at all. Readers take what is missing, half-written or damaged
for not being there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusionproxy_jax.config import Config, to_json
from fusionproxy_jax.config.identity import differences
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.runtime.partners import some_names


def member_dir(workdir: Path, name: str) -> Path:
    """Returns the run folder of a member."""
    return workdir / "members" / name


def program_dir(workdir: Path, program: str) -> Path:
    """Returns the folder of a program's state."""
    return workdir / "programs" / program


def begin_sweep(
    workdir: Path, members: Mapping[str, Config], *, cache_hash: str
) -> None:
    """Writes sweep.json, or makes sure that the one that is there says the same.

    One of which no member has begun is replaced: its settings may have been mistaken.

    Raises:
        FusionProxyError: The folder holds another sweep, or cannot be written.
    """
    wanted = {
        "members": {name: json.loads(to_json(one)) for name, one in members.items()},
        "cache": cache_hash,
    }
    path = workdir / "sweep.json"
    if not (workdir / "members").exists():
        make_folder(workdir)
        write_json(path, wanted)
    found = read_sweep(workdir)
    changes = _changes(found, wanted["members"])
    if not changes and read_json(path).get("cache") != cache_hash:
        changes = ["the teacher cache is another one"]
    if changes:
        raise FusionProxyError(
            f"{workdir} holds another sweep: {'; '.join(changes)}; give the same "
            "members and --set, or another --workdir"
        )


def _changes(found: Mapping[str, dict], wanted: Mapping[str, dict]) -> list[str]:
    changes = []
    both = [name for name in wanted if name in found]
    if different := [name for name in both if found[name] != wanted[name]]:
        first = different[0]
        what = ", ".join(differences(found[first], wanted[first])[:3])
        changes.append(f"{some_names(different)} differ ({first}: {what})")
    if new := [name for name in wanted if name not in found]:
        changes.append(f"{some_names(new)} is not in it")
    if gone := [name for name in found if name not in wanted]:
        changes.append(f"{some_names(gone)} is in it and not wanted")
    return changes


def read_sweep(workdir: Path) -> dict[str, dict[str, Any]]:
    """Returns name -> configuration, as nested dictionaries, of the members.

    Raises:
        FusionProxyError: There is no sweep in the folder, or its file is damaged.
    """
    path = workdir / "sweep.json"
    if not path.exists():
        raise FusionProxyError(
            f"{workdir} holds no sweep; make one with `fusionproxy sweep FILE.py "
            f"--cache CACHE --workdir {workdir}`"
        )
    members = read_json(path).get("members")
    whole = isinstance(members, dict) and all(
        isinstance(config, dict) for config in members.values()
    )
    if not whole or not members:
        raise FusionProxyError(
            f"{path} is damaged; delete it and run the same `fusionproxy sweep` again"
        )
    return members


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON file."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object of a JSON file, empty where it cannot be read."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def make_folder(directory: Path) -> None:
    """Makes a folder and those above it, where missing.

    Raises:
        FusionProxyError: It cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FusionProxyError(
            f"could not make the folder {directory}: {error.strerror}"
        ) from error
