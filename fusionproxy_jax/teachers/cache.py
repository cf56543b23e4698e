"""The teacher cache: every training image's ensemble, drawn once, read many times.

A folder of manifest.json, prior.npz, array_record shards of a few tiles each, and
report.json, which comes last. Several processes may build one folder: process p of P
draws the shards k with k mod P = p. All may be killed at any moment and started again
in any order; the random keys of a tile follow from its name, so the result is the same.
Records are the dicts of `input_pipeline.schema`; their id is the pair's with the tile's
corner, "ID@top,left".
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.diffusion.gaussian_prior import (
    GaussianPrior,
    load_gaussian_prior,
    save_gaussian_prior,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.acceptance import read_report, write_report
from fusionproxy_jax.teachers.manifest import (
    TILES_PER_SHARD,
    ImageEntry,
    Manifest,
    manifest_path,
    read_manifest,
    require_same,
)
from fusionproxy_jax.teachers.ownership import owned, sweep
from fusionproxy_jax.teachers.part import SHEETS, Part, PartBuilder, Progress
from fusionproxy_jax.teachers.records import DamagedRecordError, decode
from fusionproxy_jax.teachers.registry import Teacher, build_teachers
from fusionproxy_jax.teachers.shards import (
    is_finished,
    shard_path,
    unfinished_shards,
)
from fusionproxy_jax.teachers.tile_ensemble import default_tiles_per_draw, survey
from fusionproxy_jax.teachers.verdict import failed_criteria

_POLL_SECONDS = 0.5


def build_cache(
    source: Sequence[dict],
    config: TeacherConfig,
    directory: str | Path,
    *,
    progress: Progress | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
    tiles_per_draw: int | None = None,
    num_sheets: int = 0,
    accept_failed_gate: bool = False,
    prior_source: Sequence[dict] | None = None,
) -> "TeacherCache | None":
    """Builds the cache of `source` in `directory`, or goes on with a build begun there.

    Args:
      source: training pairs, dicts of id, visible uint8 [h, w, 3] and infrared float32
        [h, w] in [0, 1].
      config: teachers and tiles.
      directory: made if it does not exist.
      progress: called before the first tile of this process's part, after every tile
        drawn and every shard found done.
      process_index: which of the processes that share the folder this is. None for
        both is what `jax.distributed` says, one of one without it; processes joined by
        it wait for each other in the end, because JAX ends a job that one leaves.
      process_count: how many they are.
      tiles_per_draw: tiles drawn at once, at most those of a shard, spread over the
        local devices; None is one on CPU and a few per accelerator. Another number
        changes results by float rounding only.
      num_sheets: contact sheets in the folder's sheets/, of tiles evenly spread.
      accept_failed_gate: has report.json say that this ensemble may teach although
        the gate says no.
      prior_source: pairs that the Gaussian prior is fitted to, luminance and infrared;
        None takes `source`.

    Returns:
      The cache, whatever its gate says; None when parts of other processes are missing.

    Raises:
      FusionProxyError: the folder holds a cache of other teachers or pairs, or cannot
        be written; there are no pairs.
    """
    directory = Path(directory)
    part = Part.of(process_index, process_count)
    if tiles_per_draw is None:
        tiles_per_draw = default_tiles_per_draw()
    if not 1 <= tiles_per_draw <= TILES_PER_SHARD:
        raise FusionProxyError(
            f"tiles_per_draw is {tiles_per_draw}; it must be 1 to {TILES_PER_SHARD}, "
            "the tiles of one shard"
        )
    images, prior = survey(source)
    if prior_source is not None:
        _, prior = survey(prior_source)
    manifest, teachers = _begin(directory, config, images, prior)
    _sweep(directory)
    builder = PartBuilder(
        directory,
        source,
        manifest,
        config,
        teachers,
        part=part,
        tiles_per_draw=tiles_per_draw,
        num_sheets=num_sheets,
    )
    builder.draw(progress)
    # Again: those of a process that died while this one waited for it.
    _sweep(directory)
    if part.count > 1:
        missing = unfinished_shards(directory, manifest)
        while missing and process_index is None:
            time.sleep(_POLL_SECONDS)
            missing = [k for k in missing if not is_finished(shard_path(directory, k))]
        if missing:
            return None
    write_report(directory, manifest, accept_failed=accept_failed_gate)
    return open_cache(directory, allow_rejected=True)


def open_cache(
    directory: str | Path, *, allow_rejected: bool = False
) -> "TeacherCache":
    """Opens a finished cache.

    Args:
      directory: the cache's folder.
      allow_rejected: also one whose ensemble failed the gate and was not accepted.

    Raises:
      FusionProxyError: there is none, its build was not finished, or it is rejected.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        raise FusionProxyError(
            f"{directory} holds no teacher cache; build one with "
            f"`fusionproxy teach --cache {directory}`"
        )
    total = len(manifest.shards)
    missing = sum(not shard_path(directory, k).exists() for k in range(total))
    report = read_report(directory)
    if missing or report is None:
        what = f"{missing} of {total} parts are missing" if missing else "no report"
        raise FusionProxyError(
            f"the teacher cache in {directory} is unfinished ({what}); run the same "
            "`fusionproxy teach` again to finish it"
        )
    if not (report["accepted"] or allow_rejected):
        failed = "; ".join(failed_criteria(report))
        raise FusionProxyError(
            f"the teacher ensemble in {directory} failed its gate, it does not hold: "
            f"{failed}; change the teachers, or accept it with the same `fusionproxy "
            "teach` and --accept-failed-gate"
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
        path = shard_path(self.directory, shard)
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
        """Changes with any teacher setting, weight, pair or pixel."""
        return self.manifest.hash

    @property
    def prior(self) -> GaussianPrior:
        """The Gaussian prior of its pairs."""
        return load_gaussian_prior(self.directory / "prior.npz")

    @property
    def report(self) -> dict:
        """What `verdict.gate_report` says of all tiles and of every data set."""
        return read_report(self.directory) or {}


def count_missing(directory: str | Path) -> tuple[int, int]:
    """Returns how many parts of a begun cache are missing, and how many it has.

    Raises:
      FusionProxyError: no cache was begun there.
    """
    manifest = read_manifest(Path(directory))
    if manifest is None:
        raise FusionProxyError(f"{directory} holds no teacher cache")
    missing = unfinished_shards(Path(directory), manifest)
    return len(missing), len(manifest.shards)


def _begin(
    directory: Path,
    config: TeacherConfig,
    images: Sequence[ImageEntry],
    prior: GaussianPrior,
) -> tuple[Manifest, tuple[Teacher, ...]]:
    """Returns manifest and teachers; the first process to come writes them down.

    The prior comes before the manifest that says the folder is a cache. It is the
    first process's that all use: another machine may round a statistic differently.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FusionProxyError(
            f"could not make the cache folder {directory}: {error.strerror}"
        ) from error
    prior_path = directory / "prior.npz"
    found = read_manifest(directory)
    if found is None:
        with owned(manifest_path(directory)), owned(prior_path):
            found = read_manifest(directory)
            if found is None:
                if next(directory.glob("shard-*"), None) is not None:
                    raise FusionProxyError(
                        f"{directory} holds shards but no manifest.json; choose "
                        "another --cache folder, or delete this one"
                    )
                teachers = build_teachers(config, prior)
                manifest = _manifest(config, teachers, images)
                save_gaussian_prior(prior_path, prior)
                manifest.write(directory)
                return manifest, teachers
    teachers = build_teachers(config, load_gaussian_prior(prior_path))
    manifest = _manifest(config, teachers, images)
    require_same(manifest, found, directory)
    return manifest, teachers


def _manifest(
    config: TeacherConfig, teachers: Sequence[Teacher], images: Sequence[ImageEntry]
) -> Manifest:
    fingerprints = {teacher.name: teacher.fingerprint for teacher in teachers}
    return Manifest.of(config, fingerprints, images)


def _sweep(directory: Path) -> None:
    sweep(directory)
    sweep(directory / SHEETS)
