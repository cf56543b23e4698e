"""The teacher samples of a shard on disk, for as long as a panel needs them.

samples-NNNNN.array_record lies beside its shard, a record for every tile in the same
order: `samples` uint8 [s, tile, tile, 3], what an RGB network sees of all s samples of
all teachers. It is written before its shard, removed when every backbone of the panel
has seen it, and drawn anew for one that comes later.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.records import encode
from fusionproxy_jax.teachers.shards import RecordReaders

_PATTERN = "samples-*.array_record"


def samples_path(directory: Path, number: int) -> Path:
    """Returns where the samples of a shard's tiles lie, if they are kept."""
    return directory / f"samples-{number:05d}.array_record"


def encode_samples(tile_id: str, samples: np.ndarray) -> bytes:
    """Returns the record of one tile's samples, RGB [t, n, h, w, 3] in [0, 1]."""
    seen = np.round(255 * np.clip(samples, 0, 1)).astype(np.uint8)
    return encode({"id": tile_id, "samples": seen.reshape(-1, *seen.shape[2:])})


def read_samples(path: Path, positions: Iterable[int]) -> list[np.ndarray]:
    """Returns the samples of the tiles at `positions` of a shard.

    Raises:
      FusionProxyError: the file is damaged.
    """
    readers = RecordReaders()
    return [readers.read(path, position)["samples"] for position in positions]


def remove_samples(directory: Path) -> None:
    """Removes the samples of all shards, but those somebody is drawing or reading."""
    for path in sorted(directory.glob(_PATTERN)):
        with owned(path, wait=False) as mine:
            if mine:
                path.unlink(missing_ok=True)
