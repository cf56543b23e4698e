"""Endless, seeded, resumable batches of training records, through Grain.

The order of records and every crop and flip follow from the seed and the position
alone, so a run is the same whatever the number of workers, and continues exactly after
a restart: the iterator's state is a position.
"""

from collections.abc import Mapping, Sequence

import grain
import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.schema import (
    FEATURE_DEVIATION,
    FEATURE_VARIANCE,
    check_tile,
    has_panel_features,
)
from fusionproxy_jax.input_pipeline.transforms import (
    crop_and_flip,
    to_training_features,
)

# Endless in practice: Grain's own endless repeat overflows with batches of one record.
_NUM_EPOCHS = 2**32
# Batches held ready; Grain's default of 500 would fill the memory.
_READ_OPTIONS = grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)


class _CropFlip(grain.transforms.RandomMap):
    """Cuts a tile with a generator that Grain seeds from the record's position."""

    def __init__(self, *, crop_px: int, flip: bool):
        self._crop_px, self._flip = crop_px, flip

    def random_map(
        self, tile: Mapping, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        if not has_panel_features(tile):
            tile = crop_and_flip(tile, rng, crop_px=self._crop_px, flip=self._flip)
        return _with_variances(to_training_features(tile))


def _with_variances(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns training features with panel variances for the roots that are stored."""
    return {
        key.replace(FEATURE_DEVIATION, FEATURE_VARIANCE, 1): np.square(value)
        if key.startswith(FEATURE_DEVIATION)
        else value
        for key, value in features.items()
    }


def make_loader(
    source: Sequence[Mapping],
    *,
    batch_size: int,
    crop_px: int,
    flip: bool,
    seed: int,
    shard_index: int = 0,
    shard_count: int = 1,
    num_workers: int = 0,
) -> grain.DatasetIterator:
    """Returns an endless iterator over batches of `source`'s tiles.

    Args:
        source: Random access to tiles (`schema.py`); pickled once per worker.
        batch_size: Records per batch of this process.
        crop_px: Side of the square cut from each tile. Tiles with panel features are
            neither cut nor mirrored: features of a mirrored image are not the mirrored
            features.
        flip: Whether to mirror left and right half of the time.
        seed: Same seed, same batches.
        shard_index: This process; it reads records shard_index, shard_index +
            shard_count, ... of `source`.
        shard_count: Number of processes.
        num_workers: Worker processes; 0 reads in threads of this process. Workers
            import the main script again, so it must be guarded by
            `if __name__ == "__main__"`.

    Returns:
        A Grain iterator of dicts of float32 arrays: visible [b, h, w, 3], infrared
        [b, h, w, 1], ensemble_mean [b, h, w, 3], ensemble_variance [b, h, w], and where
        tiles have panel features, feature_target/BACKBONE [b, gh, gw, c] and
        feature_variance/BACKBONE [b, g, g]. `get_state` and `set_state` save and
        restore the position, as do Grain's Orbax handlers.

    Raises:
        FusionProxyError: There are fewer records than processes, the crop is larger
            than a tile, or the first tile is malformed.
    """
    _check_shard(len(source), shard_index, shard_count)
    _check_first(source[shard_index], crop_px=crop_px)
    return endless_batches(
        source,
        _CropFlip(crop_px=crop_px, flip=flip),
        batch_size=batch_size,
        seed=seed,
        shard_index=shard_index,
        shard_count=shard_count,
        num_workers=num_workers,
    )


def endless_batches(
    source: Sequence[Mapping],
    transform: grain.transforms.RandomMap,
    *,
    batch_size: int,
    seed: int,
    shard_index: int,
    shard_count: int,
    num_workers: int,
) -> grain.DatasetIterator:
    """Returns shuffled batches of this process's records, each one transformed.

    Raises:
        FusionProxyError: There are fewer records than processes.
    """
    _check_shard(len(source), shard_index, shard_count)
    # Processes see different records; they should draw different crops for them too.
    mixed_seed = int(np.random.SeedSequence([seed, shard_index]).generate_state(1)[0])
    batches = (
        grain.MapDataset.source(source)[shard_index::shard_count]
        .seed(mixed_seed)
        .shuffle()
        .random_map(transform)
        .repeat(_NUM_EPOCHS)
        .batch(batch_size)
        .to_iter_dataset(_READ_OPTIONS)
    )
    if num_workers:
        _mark_flags_parsed()
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=num_workers, per_worker_buffer_size=2
            )
        )
    return iter(batches)


def _check_shard(num_records: int, shard_index: int, shard_count: int) -> None:
    if not 0 <= shard_index < shard_count:
        raise FusionProxyError(
            f"shard_index is {shard_index}; it must be 0 to {shard_count - 1}"
        )
    if num_records < shard_count:
        raise FusionProxyError(
            f"{num_records} training records cannot be shared by {shard_count} "
            "processes; add data or use fewer processes"
        )


def _check_first(tile: Mapping, *, crop_px: int) -> None:
    check_tile(tile)
    tile_px = tile["visible"].shape[0]
    if not has_panel_features(tile) and not 1 <= crop_px <= tile_px:
        raise FusionProxyError(
            f"crop_px is {crop_px}; tiles of this cache allow 1 to {tile_px}"
        )


def _mark_flags_parsed() -> None:
    """Lets Grain start workers outside absl.app.run, whose flags it reads."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
