"""speed.json of an ablation: what its students cost on a machine."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusionproxy_jax.sweeps.folder import read_json, write_json

_FILE = "speed.json"


def student_key(student: Mapping[str, Any]) -> str:
    """Returns 16 hex digits of a student's settings."""
    text = json.dumps(student, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_speeds(workdir: Path) -> dict[str, Any]:
    """Returns what speed.json says; empty where there is none."""
    return read_json(workdir / _FILE)


def write_speeds(workdir: Path, values: Mapping[str, Any]) -> None:
    """Writes speed.json."""
    write_json(workdir / _FILE, values)
