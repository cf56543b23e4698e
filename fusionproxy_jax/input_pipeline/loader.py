"""Endless, seeded batches of training records, through Grain, from any position.

There is one order of records, with their crops and flips, that follows from the seed
alone; batch t is its records t b to (t + 1) b - 1. A process reads some rows of every
batch. So a run is the same whatever the numbers of workers and processes, and continues
exactly after a restart, on other machines too: its position is a number of batches.
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
    start: int = 0,
    rows: range | None = None,
    num_workers: int = 0,
) -> grain.DatasetIterator:
    """Returns an endless iterator over batches of `source`'s tiles.

    Args:
        source: Random access to tiles (`schema.py`); pickled once per worker.
        batch_size: Records of a batch.
        crop_px: Side of the square cut from each tile. Tiles with panel features are
            neither cut nor mirrored: features of a mirrored image are not the mirrored
            features.
        flip: Whether to mirror left and right half of the time.
        seed: Same seed, same batches.
        start: Number of batches to leave out.
        rows: Positions within each batch that are read, the share of a process; None
            reads all of them.
        num_workers: Worker processes; 0 reads in threads of this process. Workers
            import the main script again, so it must be guarded by
            `if __name__ == "__main__"`.

    Returns:
        A Grain iterator of dicts of float32 arrays: visible [b, h, w, 3], infrared
        [b, h, w, 1], ensemble_mean [b, h, w, 3], ensemble_variance [b, h, w], and where
        tiles have panel features, feature_target/BACKBONE [b, gh, gw, c] and
        feature_variance/BACKBONE [b, g, g].

    Raises:
        FusionProxyError: There are no records, the crop is larger than a tile, or the
            first tile is malformed.
    """
    _check_not_empty(source)
    _check_first(source[0], crop_px=crop_px)
    return endless_batches(
        source,
        _CropFlip(crop_px=crop_px, flip=flip),
        batch_size=batch_size,
        seed=seed,
        start=start,
        rows=rows,
        num_workers=num_workers,
    )


class _RowsOfBatches(grain.transforms.Map):
    """Number of a record that this process reads -> the record, by the one order."""

    def __init__(self, records: grain.MapDataset, batch_size: int, rows: range):
        self._records, self._batch_size, self._rows = records, batch_size, rows

    def map(self, number: int) -> dict[str, np.ndarray]:
        batch, row = divmod(int(number), len(self._rows))
        return self._records[batch * self._batch_size + self._rows[row]]


def endless_batches(
    source: Sequence[Mapping],
    transform: grain.transforms.RandomMap,
    *,
    batch_size: int,
    seed: int,
    start: int,
    rows: range | None,
    num_workers: int,
) -> grain.DatasetIterator:
    """Returns shuffled batches of records, each one transformed.

    Raises:
        FusionProxyError: There are no records.
    """
    _check_not_empty(source)
    rows = range(batch_size) if rows is None else rows
    records = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .random_map(transform)
        .repeat(_NUM_EPOCHS)
    )
    batches = (
        grain.MapDataset.range(
            start * len(rows), len(records) // batch_size * len(rows)
        )
        .map(_RowsOfBatches(records, batch_size, rows))
        .batch(len(rows))
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


def _check_not_empty(source: Sequence[Mapping]) -> None:
    if not len(source):
        raise FusionProxyError(
            "there are no training records; name more pairs with --data.sources"
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
