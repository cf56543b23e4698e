"""From pairs to cached tiles: what every record of a teacher cache holds.

Random keys follow from the names of tile and teacher, so a tile is the same whenever
and beside whichever tiles and teachers it is drawn.
"""

import hashlib
import itertools
import operator
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.diffusion.gaussian_prior import GaussianPrior, fit_gaussian_prior
from fusionproxy_jax.input_pipeline.schema import TEACHER_MEAN
from fusionproxy_jax.teachers.ddfm import image_key
from fusionproxy_jax.teachers.ensemble import (
    EnsembleStatistics,
    ensemble_statistics,
)
from fusionproxy_jax.teachers.gate import GateStatistics, gate_statistics, luminance
from fusionproxy_jax.teachers.kept_teacher import KeptTeacher
from fusionproxy_jax.teachers.manifest import TILES_PER_SHARD, ImageEntry, Manifest
from fusionproxy_jax.teachers.registry import Teacher
from fusionproxy_jax.teachers.tiles import Tile, cut


class TaughtTile(NamedTuple):
    """One tile, the teachers' samples of it, and what is kept of them."""

    samples: np.ndarray  # RGB [t, n, tile, tile, 3] in [0, 1]
    record: dict  # see `input_pipeline.schema`
    statistics: GateStatistics  # of the valid part


def survey(source: Sequence[dict]) -> tuple[list[ImageEntry], GaussianPrior]:
    """Reads every pair once: sizes, checksums and the prior's statistics."""
    images: list[ImageEntry] = []

    def luminances() -> Iterator[np.ndarray]:
        for index in range(len(source)):
            pair = source[index]
            visible, infrared = pair["visible"], pair["infrared"]
            crc32 = zlib.crc32(np.ascontiguousarray(visible))
            crc32 = zlib.crc32(np.ascontiguousarray(infrared), crc32)
            images.append(ImageEntry(pair["id"], *infrared.shape, crc32))
            yield luminance(visible / np.float32(255.0))
            yield infrared

    prior = fit_gaussian_prior(luminances())
    return images, prior


def teacher_key(seed: int, tile_id: str, teacher: str) -> jax.Array:
    """Returns the key of a tile under one teacher.

    By the teacher's name, not its place: other teachers beside it change nothing.
    """
    digest = hashlib.sha256(teacher.encode()).digest()
    return image_key(seed, tile_id, int.from_bytes(digest[:4], "little"))


def default_tiles_per_draw() -> int:
    """Returns 1 on CPU, else a few per device: accelerators idle on a single tile."""
    if jax.default_backend() == "cpu":
        return 1
    return min(4 * jax.local_device_count(), TILES_PER_SHARD)


def teach_tiles(
    source: Sequence[dict],
    manifest: Manifest,
    tiles: Sequence[tuple[int, Tile]],
    config: TeacherConfig,
    teachers: Sequence[Teacher | KeptTeacher],
    *,
    tiles_per_draw: int = 1,
) -> Iterator[TaughtTile]:
    """Yields every tile's samples, record and gate statistics.

    Args:
      source: the pairs of the manifest.
      manifest: ids of the pairs.
      tiles: (number of the pair, tile).
      config: seed, number of samples, kind of variance and size of the tiles.
      teachers: those of `config`.
      tiles_per_draw: tiles drawn at once, spread over the local devices when those
        divide it. The last draw is filled up, so that everything is compiled once.
    """
    draws = _draws(
        _cuts(source, manifest, tiles, config.tile_px),
        config,
        teachers,
        tiles_per_draw,
    )
    names = [teacher.name for teacher in teachers]
    # One draw ahead: devices work on it while the one before is taken apart here.
    current = next(draws, None)
    while current is not None:
        following = next(draws, None)
        batch, samples, statistics = current
        samples, statistics = jax.device_get((samples, statistics))
        for place, one in enumerate(batch):
            own = jax.tree.map(operator.itemgetter(place), statistics)
            yield _taught(one, samples[place], own, names, variance=config.variance)
        current = following


class _Cut(NamedTuple):
    id: str
    tile: Tile
    visible: np.ndarray  # uint8
    infrared: np.ndarray  # float32


def _cuts(
    source: Sequence[dict],
    manifest: Manifest,
    tiles: Sequence[tuple[int, Tile]],
    tile_px: int,
) -> Iterator[_Cut]:
    """Yields the tiles' images; a pair is read once for tiles that follow another."""
    pair, current = None, None
    for number, tile in tiles:
        if number != current:
            pair, current = source[number], number
        yield _Cut(
            manifest.tile_id(number, tile),
            tile,
            cut(pair["visible"], tile, tile_px),
            cut(pair["infrared"], tile, tile_px).astype(np.float32),
        )


class _Draw(NamedTuple):
    """On the devices, perhaps not computed yet; filled up to the draw's size."""

    tiles: list[_Cut]
    samples: jax.Array  # [b, t, n, tile, tile, 3]
    statistics: EnsembleStatistics  # of every tile


_statistics = jax.jit(jax.vmap(ensemble_statistics))


def _draws(
    cuts: Iterator[_Cut],
    config: TeacherConfig,
    teachers: Sequence[Teacher | KeptTeacher],
    tiles_per_draw: int,
) -> Iterator[_Draw]:
    spread = _spread_over_devices(tiles_per_draw)
    while batch := list(itertools.islice(cuts, tiles_per_draw)):
        padded = [*batch, *[batch[-1]] * (tiles_per_draw - len(batch))]
        visible = spread(np.stack([one.visible for one in padded]) / np.float32(255.0))
        infrared = spread(np.stack([one.infrared for one in padded]))
        ids = [one.id for one in padded]
        samples = []
        for teacher in teachers:
            if isinstance(teacher, KeptTeacher):
                samples.append(spread(teacher.samples(ids, config.num_samples)))
                continue
            keys = [teacher_key(config.seed, tile_id, teacher.name) for tile_id in ids]
            samples.append(
                teacher.draw(
                    visible, infrared, spread(jnp.stack(keys)), config.num_samples
                )
            )
        joined = jnp.stack(samples, axis=1)
        yield _Draw(batch, joined, _statistics(joined))


def _spread_over_devices(tiles_per_draw: int):
    """Returns what cuts an array along its first axis over the local devices.

    As many of them as divide `tiles_per_draw` evenly; with one, nothing is placed.
    """
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if tiles_per_draw % n == 0)
    if count == 1:
        return jnp.asarray
    # Auto axes: an Explicit mesh makes convolutions on its arrays a type error.
    mesh = Mesh(np.array(devices[:count]), ("tile",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("tile"))
    return lambda array: jax.device_put(array, sharding)


def _taught(
    one: _Cut,
    samples: np.ndarray,
    statistics: EnsembleStatistics,
    names: Sequence[str],
    *,
    variance: str,
) -> TaughtTile:
    parts = statistics.variance
    kept = parts.total if variance == "total" else parts.within.mean(axis=0)
    record = {
        "id": one.id,
        "valid_height": one.tile.valid_height,
        "valid_width": one.tile.valid_width,
        "visible": one.visible,
        "infrared": one.infrared.astype(np.float16),
        "ensemble_mean": statistics.mean.astype(np.float16),
        "ensemble_deviation": np.sqrt(kept).astype(np.float16),
    }
    if len(names) > 1:
        for name, mean in zip(names, statistics.teacher_means, strict=True):
            record[TEACHER_MEAN + name] = mean.astype(np.float16)
    gate = gate_statistics(
        samples,
        parts,
        names,
        one.visible / np.float32(255.0),
        one.infrared,
        valid=(slice(one.tile.valid_height), slice(one.tile.valid_width)),
    )
    return TaughtTile(samples, record, gate)
