"""From pairs to cached tiles: what every record of a teacher cache holds.

Random keys follow from the tile's name, so a tile is the same whenever it is drawn.
"""

import zlib
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.diffusion.gaussian_prior import GaussianPrior, fit_gaussian_prior
from fusionproxy_jax.teachers import ddfm
from fusionproxy_jax.teachers.colour import luma
from fusionproxy_jax.teachers.ensemble import ensemble_mean, ensemble_variance
from fusionproxy_jax.teachers.gate import GateStatistics, gate_statistics
from fusionproxy_jax.teachers.manifest import ImageEntry, Manifest
from fusionproxy_jax.teachers.tiles import Tile, cut


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
            yield np.asarray(luma(visible / np.float32(255.0)))
            yield infrared

    prior = fit_gaussian_prior(luminances())
    return images, prior


def teach_tiles(
    source: Sequence[dict],
    manifest: Manifest,
    tiles: Sequence[tuple[int, Tile]],
    config: TeacherConfig,
    prior: GaussianPrior,
) -> Iterator[tuple[dict, GateStatistics]]:
    """Yields the record and the gate statistics of every tile."""
    pair, current = None, None
    for number, tile in tiles:
        if number != current:
            pair, current = source[number], number
        visible = cut(pair["visible"], tile, config.tile_px)
        infrared = cut(pair["infrared"], tile, config.tile_px).astype(np.float32)
        tile_id = f"{manifest.images[number].id}@{tile.top},{tile.left}"
        samples = draw_ensemble(prior, visible, infrared, tile_id, config)
        flat = samples.reshape(-1, *samples.shape[2:])
        record = {
            "id": tile_id,
            "valid_height": tile.valid_height,
            "valid_width": tile.valid_width,
            "visible": visible,
            "infrared": infrared.astype(np.float16),
            "ensemble_mean": np.asarray(ensemble_mean(flat), np.float16),
            "ensemble_deviation": np.asarray(
                jnp.sqrt(ensemble_variance(flat)), np.float16
            ),
        }
        valid = slice(tile.valid_height), slice(tile.valid_width)
        gate = gate_statistics(
            np.asarray(samples)[:, :, *valid],
            visible[valid] / np.float32(255.0),
            infrared[valid],
        )
        yield record, gate


def draw_ensemble(
    prior: GaussianPrior,
    visible: np.ndarray,
    infrared: np.ndarray,
    tile_id: str,
    config: TeacherConfig,
):
    """Returns the samples [t, n, h, w, 3] of every teacher of the ensemble."""
    return jnp.stack(
        [
            ddfm.draw_samples(
                prior,
                visible / np.float32(255.0),
                infrared,
                ddfm.image_key(config.seed, tile_id, teacher),
                mode=config.mode,
                salient=config.salient,
                num_samples=config.num_samples,
                num_steps=config.num_steps,
                eta=config.eta,
                luma_range=config.luma,
            )
            for teacher, _ in enumerate(config.teachers)
        ]
    )
