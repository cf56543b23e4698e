"""A made-up teacher cache: tiles whose every array says where each pixel came from."""

import numpy as np


def make_tile(index: int, *, tile_px: int = 48, valid=(48, 48)) -> dict:
    """Returns a tile whose arrays all encode the same row, column and tile index.

    visible is (row, column, index); infrared is the row, ensemble_mean the row, column
    and index, ensemble_deviation the column, each over 256: exact in float16.
    """
    row, column = np.mgrid[:tile_px, :tile_px]
    index_map = np.full_like(row, index)
    stack = np.stack([row, column, index_map], axis=-1)
    return {
        "id": f"made_up/{index}",
        "valid_height": valid[0],
        "valid_width": valid[1],
        "visible": stack.astype(np.uint8),
        "infrared": (row / 256).astype(np.float16),
        "ensemble_mean": (stack / 256).astype(np.float16),
        "ensemble_deviation": (column / 256).astype(np.float16),
    }


class Tiles:
    """Random access to `make_tile` tiles; picklable for worker processes."""

    def __init__(self, num_tiles: int, **tile: object):
        self._num_tiles, self._tile = num_tiles, tile

    def __len__(self) -> int:
        return self._num_tiles

    def __getitem__(self, index: int) -> dict:
        return make_tile(index, **self._tile)


def tile_indices(batch: dict) -> list[int]:
    """Returns which tiles the records of a batch were cut from."""
    return [int(round(v)) for v in 255 * batch["visible"][:, 0, 0, 2]]
