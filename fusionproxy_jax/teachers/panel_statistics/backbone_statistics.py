"""The statistics of one backbone of the panel, shard by shard."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fusionproxy_jax.config import PanelConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.schema import FEATURE_DEVIATION, FEATURE_TARGET
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.teachers.manifest import Manifest
from fusionproxy_jax.teachers.panel_statistics.cached_backbone import (
    CachedBackbone,
    ShardTotals,
    moments_path,
    write_features,
)
from fusionproxy_jax.teachers.panel_statistics.extraction import Extractor
from fusionproxy_jax.teachers.panel_statistics.identity import Identity
from fusionproxy_jax.teachers.panel_statistics.moments import Moments
from fusionproxy_jax.teachers.records import encode
from fusionproxy_jax.teachers.shards import shard_path


class BackboneStatistics:
    """What is made of one backbone in a cache; callers own the files they ask for."""

    def __init__(
        self,
        backbone: Backbone,
        directory: Path,
        manifest: Manifest,
        config: PanelConfig,
    ) -> None:
        """Begins its folder in the cache, or goes on with one begun.

        Raises:
          FusionProxyError: the folder holds features made with something else, or
            cannot be written.
        """
        self._backbone = backbone
        self._grid = config.grid
        self._target = config.target
        self._ids = [
            [manifest.tile_id(*tile) for tile in tiles] for tiles in manifest.shards
        ]
        num_tiles = sum(map(len, self._ids))
        self._folder = Identity(
            backbone.name,
            backbone.fingerprint,
            config.grid,
            min(config.scale_tiles, num_tiles),
            config.target,
        ).begin(directory)

    def moments_path(self, number: int) -> Path:
        """Returns where the moments of a shard lie."""
        return moments_path(self._folder, number)

    def features_path(self, number: int) -> Path:
        """Returns where the features of a shard lie."""
        return shard_path(self._folder, number)

    def measure(
        self, number: int, samples: Sequence[np.ndarray], tell: Callable[[], None]
    ) -> None:
        """Writes the moments of tiles of a shard; calls `tell` after each.

        Raises:
          FusionProxyError: features are not finite, or the file cannot be written.
        """
        parts = []
        for one in samples:
            parts.append(Moments.of(np.asarray(self._extractor.features(one))))
            tell()
        moments = Moments.total(parts)
        if not np.isfinite(moments.squares).all():
            raise FusionProxyError(
                f"{self._backbone.name} gives features that are not finite numbers; "
                "take it out of panel.backbones, or get its weights again"
            )
        moments.write(self.moments_path(number))

    def load_scale(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns the scale float32 [c] that follows from the moments of shards.

        That of silent channels is inf.
        """
        return Moments.total(
            Moments.read(self.moments_path(number)) for number in numbers
        ).scale

    def extract(
        self,
        number: int,
        samples: Sequence[np.ndarray],
        scale: np.ndarray,
        tell: Callable[[], None],
    ) -> None:
        """Writes the features of a shard; calls `tell` after each tile.

        Raises:
          FusionProxyError: a feature is out of float16's range, or the files cannot be
            written.
        """
        name = self._backbone.name
        records: list[bytes] = []
        sums: list[float] = []
        height = width = 0
        for tile_id, one in zip(self._ids[number], samples, strict=True):
            found = self._extractor.statistics(
                one, scale, grid=self._grid, target=self._target
            )
            finite = np.isfinite(found.target).all(axis=(0, 1))
            if not finite.all():
                channel = int(np.argmin(finite))
                raise FusionProxyError(
                    f"channel {channel} of {name} leaves float16's range when it is "
                    f"divided by its scale, {scale[channel]:.1e}; it hardly varies "
                    "over the teacher samples, so take another tap of this network"
                )
            record = {
                "id": tile_id,
                FEATURE_TARGET + name: found.target,
                FEATURE_DEVIATION + name: found.deviation,
            }
            records.append(encode(record))
            sums.append(found.variance_sum)
            height, width, _ = found.target.shape
            tell()
        totals = ShardTotals(
            math.fsum(sums), len(records) * self._grid**2, (height, width)
        )
        write_features(self.features_path(number), records, totals)

    def finish(self, numbers: Sequence[int], scale: np.ndarray) -> None:
        """Writes statistics.json, when the features of all shards `numbers` are there.

        Raises:
          FusionProxyError: some vanished, or the file cannot be written.
        """
        totals = [ShardTotals.read(self.features_path(number)) for number in numbers]
        if None in totals:
            raise FusionProxyError(
                f"features vanished from {self._folder} while they were made; run the "
                "same `fusionproxy teach` again"
            )
        num_values = sum(each.num_values for each in totals)
        CachedBackbone(
            name=self._backbone.name,
            fingerprint=self._backbone.fingerprint,
            scale=scale,
            # Exact whatever the order, so that it is the same for all who write it.
            mean_variance=math.fsum(each.variance_sum for each in totals) / num_values,
            grid=self._grid,
            feature_grid=totals[0].feature_grid,
            target=self._target,
        ).write(self._folder)

    @functools.cached_property
    def _extractor(self) -> Extractor:
        return Extractor(self._backbone)
