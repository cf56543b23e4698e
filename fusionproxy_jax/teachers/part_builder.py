"""The drawing of one process's part of a teacher cache."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.runtime.images import write_image
from fusionproxy_jax.teachers.gate import GateStatistics
from fusionproxy_jax.teachers.kept_teacher import KeptTeacher
from fusionproxy_jax.teachers.manifest import TILES_PER_SHARD, Manifest
from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.part import Part, Progress
from fusionproxy_jax.teachers.records import encode
from fusionproxy_jax.teachers.registry import Teacher
from fusionproxy_jax.teachers.sample_sheet import sample_sheet, sheet_name
from fusionproxy_jax.teachers.samples import (
    encode_samples,
    read_samples,
    samples_path,
)
from fusionproxy_jax.teachers.shards import (
    is_finished,
    shard_path,
    write_records,
    write_shard,
)
from fusionproxy_jax.teachers.tile_ensemble import TaughtTile, teach_tiles
from fusionproxy_jax.teachers.tiles import spread_evenly

SHEETS = "sheets"


class PartBuilder:
    """Draws the shards of one part, and the contact sheets of tiles in them."""

    def __init__(
        self,
        directory: Path,
        source: Sequence[dict],
        manifest: Manifest,
        config: TeacherConfig,
        teachers: Sequence[Teacher | KeptTeacher],
        *,
        part: Part,
        tiles_per_draw: int,
        num_sheets: int,
        needs_samples: Callable[[int], bool] = lambda number: False,
        keep_samples: bool = False,
    ) -> None:
        """Takes what is drawn, and where.

        Args:
          directory: the cache's folder; it holds the manifest.
          source: the pairs of the manifest.
          manifest: of `config` and `source`.
          config: teachers and tiles.
          teachers: those of the configuration.
          part: which shards.
          tiles_per_draw: see `tile_ensemble.teach_tiles`.
          num_sheets: contact sheets of the whole cache.
          needs_samples: whether a panel still has to see the samples of a shard; they
            are written beside it, for a finished shard too.
          keep_samples: writes the samples of every shard that is drawn.
        """
        self._directory = directory
        self._names = [teacher.name for teacher in teachers]
        self._needs_samples = needs_samples
        self._keep_samples = keep_samples
        self._all_shards = manifest.shards
        self._shards = {
            number: tiles
            for number, tiles in enumerate(self._all_shards)
            if part.owns(number)
        }
        num_tiles = len(manifest.tiles)
        self._sheet_tiles = {
            number
            for number in spread_evenly(num_tiles, num_sheets)
            if part.owns(number // TILES_PER_SHARD)
        }
        self._tile_id = manifest.tile_id
        self._teach = functools.partial(
            teach_tiles,
            source,
            manifest,
            config=config,
            teachers=teachers,
            tiles_per_draw=tiles_per_draw,
        )

    def draw(self, progress: Progress | None) -> None:
        """Draws what is missing.

        A shard that another process is drawing, a second one started for this part, is
        left to it; those are waited for in the end, and drawn should it have died.
        """
        pending, done = dict(self._shards), 0
        total = sum(map(len, pending.values()))

        def tell(num_drawn: int) -> None:
            if progress:
                progress(done + num_drawn, total)

        tell(0)
        for wait in (False, True):
            for number in list(pending):
                if self._finish(number, tell, wait=wait):
                    done += len(pending.pop(number))
                    tell(0)
        self._draw_missing_sheets()

    def samples(self, number: int, positions: Sequence[int]) -> list[np.ndarray]:
        """Returns samples uint8 [s, tile, tile, 3] of tiles of any finished shard.

        Draws those of the whole shard anew if they were not kept.
        """
        path = samples_path(self._directory, number)
        # Owned while it is read too, so that nobody removes it in between.
        with owned(path):
            if not path.exists():
                self._draw_samples(number, path, lambda num_drawn: None)
            return read_samples(path, positions)

    def _finish(self, number: int, tell: Callable[[int], None], *, wait: bool) -> bool:
        """Returns whether the shard is there now, and its samples if need be."""
        path = shard_path(self._directory, number)
        samples = samples_path(self._directory, number)

        def lacks_samples() -> bool:
            return self._needs_samples(number) and not samples.exists()

        if is_finished(path) and not lacks_samples():
            return True
        with owned(path, wait=wait) as mine:
            # Its former owner may have finished it.
            if mine and not is_finished(path):
                self._draw_shard(number, path, tell)
            elif mine:
                with owned(samples):
                    if lacks_samples():
                        self._draw_samples(number, samples, tell)
            return mine

    def _draw_samples(
        self, number: int, path: Path, tell: Callable[[int], None]
    ) -> None:
        records: list[bytes] = []
        for taught in self._teach(self._all_shards[number]):
            records.append(encode_samples(taught.record["id"], taught.samples))
            tell(len(records))
        write_records(path, records)

    def _draw_shard(self, number: int, path: Path, tell: Callable[[int], None]) -> None:
        records: list[bytes] = []
        samples: list[bytes] = []
        statistics: dict[str, GateStatistics] = {}
        with_samples = self._keep_samples or self._needs_samples(number)
        for taught in self._teach(self._shards[number]):
            if number * TILES_PER_SHARD + len(records) in self._sheet_tiles:
                self._write_sheet(taught)
            records.append(encode(taught.record))
            if with_samples:
                samples.append(encode_samples(taught.record["id"], taught.samples))
            dataset = taught.record["id"].split("/")[0]
            statistics[dataset] = (
                statistics.get(dataset, GateStatistics()) + taught.statistics
            )
            tell(len(records))
        if with_samples:
            # First, so that they are there when the shard is.
            samples_file = samples_path(self._directory, number)
            with owned(samples_file):
                write_records(samples_file, samples)
        write_shard(path, records, statistics)

    def _draw_missing_sheets(self) -> None:
        """Draws the tiles anew whose shards were there before sheets were wanted."""
        missing = []
        for number in sorted(self._sheet_tiles):
            shard, position = divmod(number, TILES_PER_SHARD)
            tile = self._shards[shard][position]
            if not self._sheet_path(self._tile_id(*tile)).exists():
                missing.append(tile)
        for taught in self._teach(missing):
            self._write_sheet(taught)

    def _write_sheet(self, taught: TaughtTile) -> None:
        path = self._sheet_path(taught.record["id"])
        path.parent.mkdir(exist_ok=True)
        with owned(path):
            write_image(path, sample_sheet(taught.samples, self._names, taught.record))

    def _sheet_path(self, tile_id: str) -> Path:
        return self._directory / SHEETS / sheet_name(tile_id)
