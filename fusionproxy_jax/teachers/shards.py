"""Files of a teacher cache's tiles: array_record shards, each with its statistics.

A shard appears under its name when it is complete, after its statistics: one that is
there has both. Statistics are kept per data set, the first part of a pair's id.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from array_record.python.array_record_module import (
    ArrayRecordReader,
    ArrayRecordWriter,
)

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.teachers.gate import GateStatistics
from fusionproxy_jax.teachers.manifest import Manifest
from fusionproxy_jax.teachers.records import DamagedRecordError, decode

# Opening takes a tenth of a millisecond; 1024 is what many systems allow in all.
_MAX_OPEN = 256

# Data set -> statistics of its tiles.
DatasetStatistics = Mapping[str, GateStatistics]


def shard_path(directory: Path, number: int) -> Path:
    """Returns where a shard's tiles lie."""
    return directory / f"shard-{number:05d}.array_record"


def write_shard(
    path: Path, records: Sequence[bytes], statistics: DatasetStatistics
) -> None:
    """Writes a shard's statistics, then its tiles.

    Raises:
      FusionProxyError: the files cannot be written.
    """
    write_json(
        path.with_suffix(".json"),
        {name: found.to_json() for name, found in statistics.items()},
    )
    write_records(path, records)


def write_records(path: Path, records: Sequence[bytes]) -> None:
    """Writes one array_record file whole.

    Raises:
      FusionProxyError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        try:
            writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
            for record in records:
                writer.write(record)
            writer.close()
        except RuntimeError as error:
            raise FusionProxyError(f"could not write {path}: {error}") from error


class RecordReaders:
    """Random access to the records of many files, as many open as a system allows."""

    def __init__(self) -> None:
        self._open = functools.lru_cache(_MAX_OPEN)(ArrayRecordReader)

    def read(self, path: Path, position: int) -> dict:
        """Returns one record of the file at `path`, decoded.

        Raises:
          FusionProxyError: the file is damaged, cut short or gone.
        """
        try:
            (record,) = self._open(str(path)).read([position])
            return decode(record)
        except (DamagedRecordError, RuntimeError, ValueError, IndexError) as error:
            raise FusionProxyError(
                f"{path} is damaged; delete it and run the same `fusionproxy teach` "
                "again to make it anew"
            ) from error

    def __reduce__(self) -> tuple:
        """Leaves open files behind."""
        return RecordReaders, ()


def read_statistics(path: Path) -> DatasetStatistics | None:
    """Returns the statistics of the shard at `path`; None if missing or damaged."""
    try:
        values = json.loads(path.with_suffix(".json").read_text())
        found = {k: GateStatistics.from_json(v) for k, v in values.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found or None


def is_finished(path: Path) -> bool:
    """Returns whether the shard at `path` needs not be drawn."""
    return path.exists() and read_statistics(path) is not None


def unfinished_shards(directory: Path, manifest: Manifest) -> list[int]:
    """Returns the numbers of the shards that are not there."""
    numbers = range(len(manifest.shards))
    return [k for k in numbers if not is_finished(shard_path(directory, k))]


def write_json(path: Path, values: Mapping) -> None:
    """Writes a JSON file whole, unless it says the same already."""
    text = json.dumps(values, indent=1)
    try:
        if path.read_text() == text:
            return
    except (OSError, ValueError):
        pass
    with atomic_path(path) as temporary:
        temporary.write_text(text)
