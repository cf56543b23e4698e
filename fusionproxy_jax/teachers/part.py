"""One process's part of a teacher cache: which shards it has, and their drawing."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.images import write_image
from fusionproxy_jax.teachers.gate import GateStatistics
from fusionproxy_jax.teachers.manifest import TILES_PER_SHARD, Manifest
from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.records import encode
from fusionproxy_jax.teachers.registry import Teacher
from fusionproxy_jax.teachers.sample_sheet import (
    sample_sheet,
    sheet_name,
    spread_evenly,
)
from fusionproxy_jax.teachers.shards import is_finished, shard_path, write_shard
from fusionproxy_jax.teachers.tile_ensemble import TaughtTile, teach_tiles

# Called with (tiles done, tiles in all), also for those a resumed build finds done.
Progress = Callable[[int, int], None]
SHEETS = "sheets"


@dataclass(frozen=True)
class Part:
    """Process `index` of `count`."""

    index: int
    count: int

    @classmethod
    def of(cls, index: int | None, count: int | None) -> "Part":
        """Returns the part as given, or this process's number by `jax.distributed`.

        Raises:
          FusionProxyError: half of it is given, or there is no such process.
        """
        if index is None and count is None:
            return cls(jax.process_index(), jax.process_count())
        if index is None or count is None:
            raise FusionProxyError(
                f"process_index is {index} and process_count {count}; give both or "
                "neither"
            )
        if not 0 <= index < count:
            raise FusionProxyError(
                f"process_index is {index}; of {count} processes it must be 0 to "
                f"{count - 1}"
                if count > 0
                else f"process_count is {count}; it must be at least 1"
            )
        return cls(index, count)

    def owns(self, shard: int) -> bool:
        """Returns whether the shard is one of this process's."""
        return shard % self.count == self.index


class PartBuilder:
    """Draws the shards of one part, and the contact sheets of tiles in them."""

    def __init__(
        self,
        directory: Path,
        source: Sequence[dict],
        manifest: Manifest,
        config: TeacherConfig,
        teachers: Sequence[Teacher],
        *,
        part: Part,
        tiles_per_draw: int,
        num_sheets: int,
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
        """
        self._directory = directory
        self._names = [teacher.name for teacher in teachers]
        self._shards = {
            number: tiles
            for number, tiles in enumerate(manifest.shards)
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

    def _finish(self, number: int, tell: Callable[[int], None], *, wait: bool) -> bool:
        """Returns whether the shard is there now."""
        path = shard_path(self._directory, number)
        if is_finished(path):
            return True
        with owned(path, wait=wait) as mine:
            # Its former owner may have finished it.
            if mine and not is_finished(path):
                self._draw_shard(number, path, tell)
            return mine

    def _draw_shard(self, number: int, path: Path, tell: Callable[[int], None]) -> None:
        records: list[bytes] = []
        statistics: dict[str, GateStatistics] = {}
        for taught in self._teach(self._shards[number]):
            if number * TILES_PER_SHARD + len(records) in self._sheet_tiles:
                self._write_sheet(taught)
            records.append(encode(taught.record))
            dataset = taught.record["id"].split("/")[0]
            statistics[dataset] = (
                statistics.get(dataset, GateStatistics()) + taught.statistics
            )
            tell(len(records))
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
