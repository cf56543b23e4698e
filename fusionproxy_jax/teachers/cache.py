"""The teacher cache: every training image's ensemble, drawn once, read many times.

A folder of manifest.json, prior.npz, array_record shards of a few tiles each, and
report.json. A shard appears under its name when it is complete, so a build that is
killed loses one shard at most and goes on where it was; the random keys of a tile
follow from its name, so the result is the same either way. Records are the dicts of
`input_pipeline.schema`; their id is the pair's with the tile's corner, "ID@top,left".
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.diffusion.gaussian_prior import (
    GaussianPrior,
    load_gaussian_prior,
    save_gaussian_prior,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.teachers.gate import GateStatistics, gate_report
from fusionproxy_jax.teachers.manifest import (
    TILES_PER_SHARD,
    Manifest,
    read_manifest,
    require_same,
)
from fusionproxy_jax.teachers.records import DamagedRecordError, decode, encode
from fusionproxy_jax.teachers.tile_ensemble import survey, teach_tiles

# Called with (tiles done, tiles in all), also for those a resumed build finds done.
Progress = Callable[[int, int], None]


def build_cache(
    source: Sequence[dict],
    config: TeacherConfig,
    directory: str | Path,
    *,
    progress: Progress | None = None,
) -> "TeacherCache":
    """Builds the cache of `source` in `directory`, or finishes a build begun there.

    Args:
      source: training pairs, dicts of id, visible uint8 [h, w, 3] and infrared float32
        [h, w] in [0, 1]; the prior is fitted to the luminance of both.
      config: teachers and tiles.
      directory: made if it does not exist.
      progress: called before the first tile, after every tile drawn and every shard
        found done.

    Raises:
      FusionProxyError: the folder holds a cache of other teachers or pairs, or cannot
        be written; there are no pairs.
    """
    directory = Path(directory)
    images, prior = survey(source)
    manifest = Manifest.of(config, images)
    found = read_manifest(directory)
    if found is not None:
        require_same(manifest, found, directory)
        prior = load_gaussian_prior(directory / "prior.npz")
    else:
        _begin(directory, manifest, prior)
    for leftover in directory.glob(".*.tmp.*"):
        leftover.unlink(missing_ok=True)

    shards = manifest.shards
    total, done = sum(map(len, shards)), 0
    if progress:
        progress(0, total)
    for number, tiles in enumerate(shards):
        path = _shard_path(directory, number)
        if not path.exists() or _read_statistics(path) is None:
            records, statistics = [], GateStatistics()
            for tile, gate in teach_tiles(source, manifest, tiles, config, prior):
                records.append(encode(tile))
                statistics += gate
                if progress:
                    progress(done + len(records), total)
            # Statistics first: a shard that exists has them.
            _write_json(path.with_suffix(".json"), statistics.to_json())
            _write_shard(path, records)
        done += len(tiles)
        if progress:
            progress(done, total)
    _write_json(directory / "report.json", _report(directory, manifest))
    return open_cache(directory)


def open_cache(directory: str | Path) -> "TeacherCache":
    """Opens a finished cache.

    Raises:
      FusionProxyError: there is none, or its build was not finished.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        raise FusionProxyError(
            f"{directory} holds no teacher cache; build one with "
            f"`fusionproxy teach --cache {directory}`"
        )
    total = len(manifest.shards)
    missing = [k for k in range(total) if not _shard_path(directory, k).exists()]
    if missing:
        raise FusionProxyError(
            f"the teacher cache in {directory} is unfinished ({len(missing)} of "
            f"{total} parts are missing); run the same `fusionproxy teach` again to "
            "finish it"
        )
    return TeacherCache(directory, manifest)


class TeacherCache:
    """Random access to the tiles of a finished cache; safe to send to workers."""

    def __init__(self, directory: Path, manifest: Manifest):
        self.directory = directory
        self.manifest = manifest
        self._num_tiles = len(manifest.tiles)
        self._readers: dict[int, ArrayRecordReader] = {}

    def __len__(self) -> int:
        return self._num_tiles

    def __getitem__(self, index: int) -> dict:
        if not -len(self) <= index < len(self):
            raise IndexError(f"tile {index} of a cache of {len(self)}")
        shard, position = divmod(index % len(self), TILES_PER_SHARD)
        path = _shard_path(self.directory, shard)
        try:
            if shard not in self._readers:
                self._readers[shard] = ArrayRecordReader(str(path))
            (record,) = self._readers[shard].read([position])
            return decode(record)
        except (DamagedRecordError, RuntimeError, ValueError, IndexError) as error:
            raise FusionProxyError(
                f"{path} is damaged; delete it and run the same `fusionproxy teach` "
                "again to draw its tiles anew"
            ) from error

    def __getstate__(self) -> dict:
        """Leaves open files behind."""
        return {**self.__dict__, "_readers": {}}

    @property
    def config_json(self) -> str:
        """The teachers' configuration as JSON."""
        return json.dumps(self.manifest.teacher, indent=2, sort_keys=True)

    @property
    def hash(self) -> str:
        """Changes with any teacher setting, pair or pixel."""
        return self.manifest.hash

    @property
    def prior(self) -> GaussianPrior:
        """The prior its samples were drawn with."""
        return load_gaussian_prior(self.directory / "prior.npz")

    @property
    def report(self) -> dict:
        """What `gate.gate_report` says of its ensembles."""
        return json.loads((self.directory / "report.json").read_text())


def _begin(directory: Path, manifest: Manifest, prior: GaussianPrior) -> None:
    """Writes the prior, then the manifest that says the folder is a cache."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FusionProxyError(
            f"could not make the cache folder {directory}: {error.strerror}"
        ) from error
    if next(directory.glob("shard-*"), None) is not None:
        raise FusionProxyError(
            f"{directory} holds shards but no manifest.json; choose another --cache "
            "folder, or delete this one"
        )
    save_gaussian_prior(directory / "prior.npz", prior)
    manifest.write(directory)


def _shard_path(directory: Path, number: int) -> Path:
    return directory / f"shard-{number:05d}.array_record"


def _write_shard(path: Path, records: Sequence[bytes]) -> None:
    with atomic_path(path) as temporary:
        try:
            writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
            for record in records:
                writer.write(record)
            writer.close()
        except RuntimeError as error:
            raise FusionProxyError(f"could not write {path}: {error}") from error


def _write_json(path: Path, values: dict) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1))


def _report(directory: Path, manifest: Manifest) -> dict:
    """Returns the gate report of all tiles, from the shards' statistics."""
    total = GateStatistics()
    for number in range(len(manifest.shards)):
        statistics = _read_statistics(_shard_path(directory, number))
        if statistics is None:
            raise FusionProxyError(
                f"the statistics of part {number} vanished from {directory} while the "
                "cache was built; run the same `fusionproxy teach` again"
            )
        total += statistics
    return {
        "num_pairs": len(manifest.images),
        "num_tiles": len(manifest.tiles),
        "hash": manifest.hash,
        **gate_report(total),
    }


def _read_statistics(shard: Path) -> GateStatistics | None:
    """Returns a shard's gate statistics, or None if they are missing or damaged."""
    try:
        return GateStatistics.from_json(
            json.loads(shard.with_suffix(".json").read_text())
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
