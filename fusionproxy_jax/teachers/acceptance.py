"""report.json of a teacher cache: the gate's verdict, and whether it may teach."""

import json
from pathlib import Path
from typing import Literal

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.gate import GateStatistics
from fusionproxy_jax.teachers.manifest import Manifest
from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.shards import read_statistics, shard_path, write_json
from fusionproxy_jax.teachers.verdict import failed_criteria, gate_report

_FILE = "report.json"
BY_OVERRIDE = "by override"


def write_report(directory: Path, manifest: Manifest, *, accept_failed: bool) -> None:
    """Writes the report of a cache whose shards are all there.

    `accepted` in it is whether all tiles together passed the gate, or "by override"
    when they did not and `accept_failed` was given for this cache, now or earlier.

    Raises:
      FusionProxyError: statistics vanished, or the file cannot be written.
    """
    datasets: dict[str, GateStatistics] = {}
    for number in range(len(manifest.shards)):
        found = read_statistics(shard_path(directory, number))
        if found is None:
            raise FusionProxyError(
                f"the statistics of part {number} vanished from {directory} while the "
                "cache was built; run the same `fusionproxy teach` again"
            )
        for name, statistics in found.items():
            datasets[name] = datasets.get(name, GateStatistics()) + statistics
    report = {
        "num_pairs": len(manifest.images),
        "hash": manifest.hash,
        **gate_report(sum(datasets.values(), GateStatistics())),
        "datasets": {name: gate_report(found) for name, found in datasets.items()},
    }
    path = directory / _FILE
    # Others may be writing it too: one of them may have brought the override.
    with owned(path):
        accepted: bool | Literal["by override"] = not failed_criteria(report)
        if not accepted and (accept_failed or _was_overridden(path, manifest)):
            accepted = BY_OVERRIDE
        write_json(path, {"accepted": accepted, **report})


def read_report(directory: Path) -> dict | None:
    """Returns the report of a cache; None if there is none, or a damaged one."""
    try:
        report = json.loads((directory / _FILE).read_text())
        return report if report.keys() >= {"accepted", "passed"} else None
    except (OSError, ValueError, AttributeError):
        return None


def _was_overridden(path: Path, manifest: Manifest) -> bool:
    report = read_report(path.parent) or {}
    return (report.get("accepted"), report.get("hash")) == (BY_OVERRIDE, manifest.hash)
