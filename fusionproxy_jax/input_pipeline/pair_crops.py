"""Endless batches of random crops of pairs: what the teachers' networks train on.

Pairs, not tiles of a cache: teachers are trained before there is one.
"""

from collections.abc import Mapping, Sequence

import grain
import numpy as np
from PIL import Image

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.loader import endless_batches

# Pairs differ in scale by less than a zoom of a third, so this fills the gaps.
_LARGEST_ZOOM = 1.3


class PairsInMemory(Sequence):
    """Pairs read once: a few hundred are decoded thousands of times otherwise.

    The images are read when they are first asked for, in any process.
    """

    def __init__(self, pairs: Sequence[Mapping]):
        self._pairs = pairs
        self._read: dict[int, Mapping] = {}

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Mapping:
        if index not in self._read:
            pair = self._pairs[index]
            self._read[index] = {
                "visible": pair["visible"],
                "infrared": np.round(255 * pair["infrared"]).astype(np.uint8),
            }
        return self._read[index]

    def __getstate__(self) -> dict:
        """Leaves the images behind."""
        return {"_pairs": self._pairs, "_read": {}}


class _ZoomCropFlip(grain.transforms.RandomMap):
    """Cuts a window of random size, resizes it to the crop and mirrors it."""

    def __init__(self, *, crop_px: int, flip: bool):
        self._crop_px, self._flip = crop_px, flip

    def random_map(
        self, pair: Mapping, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        height, width = pair["infrared"].shape
        zoom = np.exp(rng.uniform(-1.0, 1.0) * np.log(_LARGEST_ZOOM))
        side = min(round(self._crop_px / zoom), height, width)
        top = int(rng.integers(0, height - side + 1))
        left = int(rng.integers(0, width - side + 1))
        mirror = -1 if self._flip and rng.random() < 0.5 else 1
        return {
            name: _resized(
                pair[name][top : top + side, left : left + side], self._crop_px
            )[:, ::mirror]
            for name in ("visible", "infrared")
        }


def make_pair_loader(
    pairs: Sequence[Mapping],
    *,
    batch_size: int,
    crop_px: int,
    flip: bool,
    seed: int,
    start: int = 0,
    rows: range | None = None,
    num_workers: int = 0,
) -> grain.DatasetIterator:
    """Returns an endless, seeded iterator over batches of crops, from any position.

    Args:
        pairs: Random access to dicts of visible uint8 [h, w, 3] and infrared float32
            [h, w] in [0, 1].
        batch_size: Crops of a batch.
        crop_px: Side of a crop; windows between 1/1.3 and 1.3 times that side, or
            what a small image has, are resized to it.
        flip: Whether to mirror left and right half of the time.
        seed: Same seed, same batches.
        start: Number of batches to leave out.
        rows: Positions within each batch that are read, see `loader`.
        num_workers: Worker processes; 0 reads in threads.

    Returns:
        A Grain iterator of dicts of float32 arrays in [0, 1]: visible [b, h, w, 3],
        infrared [b, h, w, 1].

    Raises:
        FusionProxyError: There are no pairs.
    """
    if not len(pairs):
        raise FusionProxyError(
            "there are no training pairs; name more pairs with --data.sources or "
            "lower data.validation_fraction"
        )
    return endless_batches(
        PairsInMemory(pairs),
        _ZoomCropFlip(crop_px=crop_px, flip=flip),
        batch_size=batch_size,
        seed=seed,
        start=start,
        rows=rows,
        num_workers=num_workers,
    )


def _resized(image: np.ndarray, side_px: int) -> np.ndarray:
    """Returns float32 [side_px, side_px, c] in [0, 1] of a uint8 square."""
    if image.shape[0] != side_px:
        picture = Image.fromarray(np.ascontiguousarray(image))
        # Antialiased when it shrinks.
        picture = picture.resize((side_px, side_px), Image.Resampling.BILINEAR)
        image = np.asarray(picture)
    return image.reshape(side_px, side_px, -1) * np.float32(1 / 255)
