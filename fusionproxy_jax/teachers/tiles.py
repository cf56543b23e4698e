"""Fixed square tiles that cover an image with the least overlap."""

from typing import NamedTuple

import numpy as np


class Tile(NamedTuple):
    """Where a tile lies in its image; the rest of the square is padding."""

    top: int
    left: int
    valid_height: int
    valid_width: int


def tile_starts(side_px: int, tile_px: int) -> list[int]:
    """Returns the fewest starts whose tiles cover a side, evenly spread.

    A side shorter than a tile gives one start at 0.
    """
    count = -(-side_px // tile_px)
    if count == 1:
        return [0]
    last = side_px - tile_px
    return [round(last * k / (count - 1)) for k in range(count)]


def tiles_of(
    height: int, width: int, tile_px: int, *, most: int | None = None
) -> list[Tile]:
    """Returns the tiles of an image, row by row; of too many, `most` evenly spread."""
    tiles = [
        Tile(top, left, min(tile_px, height), min(tile_px, width))
        for top in tile_starts(height, tile_px)
        for left in tile_starts(width, tile_px)
    ]
    if most is None or len(tiles) <= most:
        return tiles
    return [tiles[(2 * k + 1) * len(tiles) // (2 * most)] for k in range(most)]


def cut(image: np.ndarray, tile: Tile, tile_px: int) -> np.ndarray:
    """Returns [tile_px, tile_px, ...] of `image`, reflected beyond its valid part."""
    part = image[
        tile.top : tile.top + tile.valid_height,
        tile.left : tile.left + tile.valid_width,
    ]
    padding = [(0, tile_px - tile.valid_height), (0, tile_px - tile.valid_width)]
    padding += [(0, 0)] * (image.ndim - 2)
    return np.pad(part, padding, mode="reflect")


def spread_evenly(num_tiles: int, most: int) -> list[int]:
    """Returns up to `most` of the tiles 0, 1, ..., evenly spread, ascending."""
    if most < 1:
        return []
    chosen = np.linspace(0, num_tiles - 1, min(most, num_tiles))
    return chosen.round().astype(int).tolist()
