"""A teacher whose samples were drawn before: those that a finished cache kept.

Sample n of a tile depends on the tile, the teacher and n alone, so the first n of a
larger ensemble are those that a smaller one would draw, rounded to 8 bits.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.cached_tiles import TeacherCache
from fusionproxy_jax.teachers.manifest import (
    TILES_PER_SHARD,
    ImageEntry,
    Manifest,
    first_difference,
)
from fusionproxy_jax.teachers.samples import samples_path
from fusionproxy_jax.teachers.shards import RecordReaders

# Costs nothing to draw, so that it may stand beside kept samples of others.
_FREE = "average"
_INSTEAD = (
    "build that cache in another folder with --keep-samples, or draw without "
    "--samples-of"
)


class KeptTeacher:
    """The samples of one teacher in a cache built with `keep_samples`."""

    def __init__(self, cache: TeacherCache, name: str) -> None:
        """Takes a cache that kept its samples, and which teacher of it."""
        manifest = cache.manifest
        self.name = name
        self.fingerprint = manifest.fingerprints[name]
        self._directory = cache.directory
        count = manifest.teacher["num_samples"]
        self._first = manifest.teacher["teachers"].index(name) * count
        self._places = {
            manifest.tile_id(*tile): divmod(number, TILES_PER_SHARD)
            for number, tile in enumerate(manifest.tiles)
        }
        self._readers = RecordReaders()

    def samples(self, tile_ids: Sequence[str], num_samples: int) -> np.ndarray:
        """Returns the first samples of tiles, float32 RGB [b, n, h, w, 3] in [0, 1].

        Raises:
          FusionProxyError: their file is damaged or gone, or holds other tiles.
        """
        found = [self._read(tile_id, num_samples) for tile_id in tile_ids]
        return np.stack(found) / np.float32(255.0)

    def _read(self, tile_id: str, num_samples: int) -> np.ndarray:
        number, position = self._places[tile_id]
        path = samples_path(self._directory, number)
        try:
            record = self._readers.read(path, position)
        except FusionProxyError as error:
            # What the reader says helps where teachers are there to draw anew.
            raise FusionProxyError(f"{path} is damaged or gone; {_INSTEAD}") from error
        if record["id"] != tile_id:
            raise FusionProxyError(
                f"{path} holds samples of {record['id']} for {tile_id}; {_INSTEAD}"
            )
        return record["samples"][self._first : self._first + num_samples]


def kept_teachers(
    cache: TeacherCache, config: TeacherConfig, images: Sequence[ImageEntry]
) -> dict[str, KeptTeacher]:
    """Returns the teachers of `config` whose samples `cache` kept, by name.

    Those that are left are to be drawn; they cost nothing.

    Raises:
      FusionProxyError: the cache is of other pairs, tiles or settings, has no samples
        of a teacher or too few, or did not keep them.
    """
    there = cache.manifest.teacher["teachers"]
    names = [name for name in config.teachers if name in there]
    missing = [name for name in config.teachers if name not in (*there, _FREE)]
    if missing or not names:
        raise FusionProxyError(
            f"{cache.directory} has samples of {', '.join(there)}, not of "
            f"{', '.join(missing or config.teachers)}; take teachers from those, "
            f"beside {_FREE}, or draw without --samples-of"
        )
    count = cache.manifest.teacher["num_samples"]
    if config.num_samples > count:
        raise FusionProxyError(
            f"teacher.num_samples is {config.num_samples}, and {cache.directory} has "
            f"{count} samples of each teacher; ask for at most {count}, or draw "
            "without --samples-of"
        )
    _require_same_draw(cache, config, names, images)
    _require_kept(cache)
    return {name: KeptTeacher(cache, name) for name in names}


def _require_same_draw(
    cache: TeacherCache,
    config: TeacherConfig,
    names: Sequence[str],
    images: Sequence[ImageEntry],
) -> None:
    """Refuses samples of a cache that `config` would have drawn otherwise."""
    found = cache.manifest
    # What follows from the samples, or chooses among them, may differ.
    drawn = dataclasses.replace(
        config,
        teachers=tuple(found.teacher["teachers"]),
        num_samples=found.teacher["num_samples"],
        variance=found.teacher["variance"],
    )
    wanted = Manifest.of(drawn, found.fingerprints, images, samples_of=found.samples_of)
    differences = [
        f"teacher.{name}.weights was {old!r}, now {new!r}"
        for name in names
        if found.fingerprints[name]
        for old, new in [
            (found.teacher[name]["weights"], wanted.teacher[name]["weights"])
        ]
        if old != new
    ]
    if wanted.hash != found.hash:
        differences.insert(0, first_difference(wanted, found))
    if differences:
        raise FusionProxyError(
            f"the samples of {cache.directory} cannot be taken ({differences[0]}); "
            "give the pairs and settings it was built with, or draw without "
            "--samples-of"
        )


def _require_kept(cache: TeacherCache) -> None:
    numbers = range(len(cache.manifest.shards))
    missing = sum(not samples_path(cache.directory, k).is_file() for k in numbers)
    if missing:
        raise FusionProxyError(
            f"{cache.directory} kept no samples of {missing} of its {len(numbers)} "
            f"parts; {_INSTEAD}"
        )
