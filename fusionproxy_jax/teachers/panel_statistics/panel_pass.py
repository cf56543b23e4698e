"""The passes of a panel over the teacher samples of a cache.

Samples are seen twice: the scale of every channel must be known (first pass, on tiles
evenly spread over the cache) before anything scaled by it is averaged (second pass, on
all tiles). What each shard gives is a file of its own, so both passes may be killed,
continued and shared like the drawing of shards.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fusionproxy_jax.config import PanelConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.teachers.manifest import TILES_PER_SHARD, Manifest
from fusionproxy_jax.teachers.panel_statistics.backbone_statistics import (
    BackboneStatistics,
)
from fusionproxy_jax.teachers.panel_statistics.cached_backbone import is_extracted
from fusionproxy_jax.teachers.panel_statistics.identity import require_one_kind
from fusionproxy_jax.teachers.panel_statistics.shared_pass import (
    PassProgress,
    ReadSamples,
    SharedPass,
)
from fusionproxy_jax.teachers.part import Part
from fusionproxy_jax.teachers.tiles import spread_evenly

# Names of the passes, as progress is told.
_SCALE = "scale"
_FEATURES = "features"


class PanelPass:
    """Both passes, as one process of several works on them."""

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        panel: Sequence[Backbone],
        config: PanelConfig,
        part: Part,
    ) -> None:
        """Begins every backbone's folder in the cache.

        Args:
          directory: the cache's folder.
          manifest: of the cache.
          panel: the backbones; with none, nothing is needed or done.
          config: grid and tiles of the scale.
          part: which shards are this process's.

        Raises:
          FusionProxyError: two backbones have one name, or the folder holds features
            of another one of that name, or of any on another grid or of another
            target.
        """
        names = [backbone.name for backbone in panel]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise FusionProxyError(
                f"the panel has several backbones named {doubled[0]}; each needs a "
                "name of its own"
            )
        if names:
            require_one_kind(directory, names, grid=config.grid, target=config.target)
        self._panel = [
            BackboneStatistics(backbone, directory, manifest, config)
            for backbone in panel
        ]
        self._part = part
        self._sizes = [len(tiles) for tiles in manifest.shards]
        self._scale_positions: dict[int, list[int]] = {}
        for tile in spread_evenly(sum(self._sizes), config.scale_tiles):
            number, position = divmod(tile, TILES_PER_SHARD)
            self._scale_positions.setdefault(number, []).append(position)

    @property
    def moments_paths(self) -> list[Path]:
        """All files the first pass makes."""
        return [
            each.moments_path(number)
            for each in self._panel
            for number in self._scale_positions
        ]

    @property
    def features_paths(self) -> list[Path]:
        """All files of tiles the second pass makes."""
        return [
            each.features_path(number)
            for each in self._panel
            for number in range(len(self._sizes))
        ]

    def needs_samples(self, number: int) -> bool:
        """Returns whether a backbone has still to see the samples of a shard."""
        return not all(
            is_extracted(each.features_path(number)) and self._is_measured(each, number)
            for each in self._panel
        )

    def measure(self, read: ReadSamples, progress: PassProgress | None) -> None:
        """Makes the first pass over this process's shards.

        Raises:
          FusionProxyError: see `BackboneStatistics.measure`.
        """
        SharedPass(
            name=_SCALE,
            positions={
                number: positions
                for number, positions in self._scale_positions.items()
                if self._part.owns(number)
            },
            path=BackboneStatistics.moments_path,
            is_done=Path.exists,
            make=BackboneStatistics.measure,
        ).run(self._panel, self._part, read, progress)

    def extract(self, read: ReadSamples, progress: PassProgress | None) -> None:
        """Makes the second pass over this process's shards, then over those left.

        All files of the first pass must be there. Shards of other processes are left
        to them when they are at work on them, and done when they are not.

        Raises:
          FusionProxyError: see `BackboneStatistics.extract`.
        """
        scales = {each: self._scale(each) for each in self._panel}
        # Its own first, so that living processes rarely meet.
        order = sorted(
            range(len(self._sizes)), key=lambda number: not self._part.owns(number)
        )
        SharedPass(
            name=_FEATURES,
            positions={number: range(self._sizes[number]) for number in order},
            path=BackboneStatistics.features_path,
            is_done=is_extracted,
            make=lambda each, number, samples, tell: each.extract(
                number, samples, scales[each], tell
            ),
        ).run(self._panel, self._part, read, progress)

    def finish(self, progress: PassProgress | None) -> None:
        """Writes what follows from both passes, when all their files are there.

        Tells that the second one is over, whoever did the end of it.

        Raises:
          FusionProxyError: see `BackboneStatistics.finish`.
        """
        for each in self._panel:
            each.finish(range(len(self._sizes)), self._scale(each))
        if progress and self._panel:
            progress(_FEATURES, sum(self._sizes), sum(self._sizes))

    def _scale(self, each: BackboneStatistics) -> np.ndarray:
        return each.load_scale(list(self._scale_positions))

    def _is_measured(self, each: BackboneStatistics, number: int) -> bool:
        return number not in self._scale_positions or each.moments_path(number).exists()
