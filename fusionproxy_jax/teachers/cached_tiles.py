"""Reading a teacher cache: its tiles, and what is known of them all."""

import json
from collections.abc import Sequence
from pathlib import Path

from fusionproxy_jax.diffusion.gaussian_prior import (
    GaussianPrior,
    load_gaussian_prior,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.acceptance import read_report
from fusionproxy_jax.teachers.manifest import TILES_PER_SHARD, Manifest
from fusionproxy_jax.teachers.panel_statistics.cached_backbone import CachedBackbone
from fusionproxy_jax.teachers.panel_statistics.identity import (
    begun_backbones,
    features_folder,
)
from fusionproxy_jax.teachers.shards import RecordReaders, shard_path


class TeacherCache:
    """Random access to the tiles of a finished cache; safe to send to workers."""

    def __init__(self, directory: Path, manifest: Manifest, panel: Sequence[str] = ()):
        """Takes the folder of a finished cache, and whose features its tiles carry."""
        self.directory = directory
        self.manifest = manifest
        self._panel = tuple(panel)
        self._num_tiles = len(manifest.tiles)
        self._readers = RecordReaders()

    def __len__(self) -> int:
        return self._num_tiles

    def __getitem__(self, index: int) -> dict:
        if not -len(self) <= index < len(self):
            raise IndexError(f"tile {index} of a cache of {len(self)}")
        shard, position = divmod(index % len(self), TILES_PER_SHARD)
        tile = self._readers.read(shard_path(self.directory, shard), position)
        for name in self._panel:
            path = shard_path(features_folder(self.directory, name), shard)
            features = self._readers.read(path, position)
            if features["id"] != tile["id"]:
                raise FusionProxyError(
                    f"{path} holds features of {features['id']} for {tile['id']}; "
                    f"delete {path.parent} and run the same `fusionproxy teach` again"
                )
            tile |= features
        return tile

    @property
    def panel(self) -> tuple[CachedBackbone, ...]:
        """The backbones whose features of all tiles are there, by name."""
        finished = map(self._finished, begun_backbones(self.directory))
        return tuple(found for found in finished if found is not None)

    @property
    def unfinished_panel(self) -> tuple[str, ...]:
        """Names of the backbones whose features were begun and are not all there."""
        begun = begun_backbones(self.directory)
        return tuple(name for name in begun if self._finished(name) is None)

    def with_panel(self, names: Sequence[str]) -> "TeacherCache":
        """Returns this cache with tiles that carry the features of these backbones.

        Raises:
          FusionProxyError: the cache has no features of one of them.
        """
        begun = begun_backbones(self.directory)
        for name in names:
            if name not in begun:
                there = ", ".join(entry.name for entry in self.panel) or "none"
                raise FusionProxyError(
                    f"the teacher cache in {self.directory} has no features of "
                    f"{name!r}, it has those of: {there}; add them with the same "
                    "`fusionproxy teach` and --panel.backbones"
                )
            if self._finished(name) is None:
                raise FusionProxyError(
                    f"the features of {name} in {self.directory} are unfinished; run "
                    "the same `fusionproxy teach` again to finish them"
                )
        return TeacherCache(self.directory, self.manifest, names)

    def _finished(self, name: str) -> CachedBackbone | None:
        folder = features_folder(self.directory, name)
        numbers = range(len(self.manifest.shards))
        if all(shard_path(folder, number).exists() for number in numbers):
            return CachedBackbone.read(folder)
        return None

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
