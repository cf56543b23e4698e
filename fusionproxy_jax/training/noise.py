"""Batches and teacher caches of noise: what a step and a loader are timed on."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusionproxy_jax.config import Config, TeacherConfig
from fusionproxy_jax.input_pipeline.loader import make_loader
from fusionproxy_jax.input_pipeline.schema import (
    FEATURE_DEVIATION,
    FEATURE_TARGET,
    FEATURE_VARIANCE,
    TILE_ARRAYS,
)
from fusionproxy_jax.teachers.cached_tiles import TeacherCache
from fusionproxy_jax.teachers.manifest import TILES_PER_SHARD, ImageEntry, Manifest
from fusionproxy_jax.teachers.panel_statistics.identity import features_folder
from fusionproxy_jax.teachers.records import encode
from fusionproxy_jax.teachers.shards import shard_path, write_records
from fusionproxy_jax.training.panel_features import PanelFeatures
from fusionproxy_jax.training.step_cost import batch_shapes


def random_batch(
    generator: np.random.Generator, config: Config, panel: PanelFeatures | None = None
) -> dict[str, np.ndarray]:
    """Returns a global batch of noise of the shapes and ranges of a real one."""
    return {
        name: generator.random(shape.shape, np.float32)
        for name, shape in batch_shapes(config, panel).items()
    }


class _ManyTimes(Sequence):
    """A sequence repeated; safe to send to workers."""

    def __init__(self, items: Sequence, times: int) -> None:
        self._items, self._times = items, times

    def __len__(self) -> int:
        return self._times * len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index % len(self._items)]


@contextlib.contextmanager
def noise_batches(
    config: Config, panel: PanelFeatures | None = None
) -> Iterator[Iterator[dict[str, np.ndarray]]]:
    """Gives the batches of a run that reads a cache of noise, until it is left.

    The files are read soon after they are written: from memory, most likely.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = write_noise_cache(Path(folder), config, panel)
        loader = make_loader(
            # Grain draws the place of a record until it is one of them: with as few
            # as these, that would take as long as reading it.
            _ManyTimes(cache, 64),
            batch_size=config.data.batch_size,
            crop_px=config.data.crop_px,
            flip=config.data.flip,
            seed=config.data.seed,
            num_workers=config.data.num_workers,
        )
        # Before the folder goes: threads read ahead.
        with contextlib.closing(loader):
            yield loader


def write_noise_cache(
    directory: Path,
    config: Config,
    panel: PanelFeatures | None = None,
    *,
    num_tiles: int = 2 * TILES_PER_SHARD,
) -> TeacherCache:
    """Writes the records of a cache of noise, as large as those of a real one.

    Args:
        directory: An empty folder.
        config: The run that would read it. Tiles have its `teacher.tile_px`, or the
            size of the crops where those are larger or belong to a panel.
        panel: Its features are in the cache, too.
        num_tiles: In shards of the usual size.

    Raises:
        FusionProxyError: The files cannot be written.
    """
    side = config.data.crop_px
    if panel is None:
        side = max(side, config.teacher.tile_px)
    manifest = Manifest.of(
        # A multiple of what tiles must be; the images are no larger than a tile.
        TeacherConfig(tile_px=side + -side % 32),
        {},
        [ImageEntry(f"noise/{index}", side, side, 0) for index in range(num_tiles)],
    )
    generator = np.random.default_rng(config.seed)
    names = () if panel is None else panel.backbones
    shapes = batch_shapes(config, panel)
    for name in names:
        features_folder(directory, name).mkdir(parents=True)
    for number, tiles in enumerate(manifest.shards):
        ids = [manifest.tile_id(*tile) for tile in tiles]
        write_records(
            shard_path(directory, number),
            [encode(_random_tile(generator, tile_id, side)) for tile_id in ids],
        )
        for name in names:
            feature_shapes = {
                FEATURE_TARGET + name: shapes[FEATURE_TARGET + name].shape[1:],
                FEATURE_DEVIATION + name: shapes[FEATURE_VARIANCE + name].shape[1:],
            }
            write_records(
                shard_path(features_folder(directory, name), number),
                [
                    encode({"id": tile_id} | _random_halves(generator, feature_shapes))
                    for tile_id in ids
                ],
            )
    return TeacherCache(directory, manifest, names)


def _random_tile(generator: np.random.Generator, tile_id: str, side: int) -> dict:
    tile: dict = {"id": tile_id, "valid_height": side, "valid_width": side}
    for key, dtype, channels in TILE_ARRAYS:
        shape = (side, side) if channels is None else (side, side, channels)
        noise = generator.random(shape, np.float32)
        tile[key] = (255 * noise if dtype is np.uint8 else noise).astype(dtype)
    return tile


def _random_halves(
    generator: np.random.Generator, shapes: dict[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    return {
        key: generator.random(shape, np.float32).astype(np.float16)
        for key, shape in shapes.items()
    }
