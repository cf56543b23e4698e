import numpy as np
import pytest

from fusionproxy_jax.teachers.tiles import (
    Tile,
    cut,
    spread_evenly,
    tile_starts,
    tiles_of,
)


@pytest.mark.parametrize("side", [1, 31, 32, 33, 64, 65, 100, 641])
def test_tiles_cover_every_pixel_with_as_few_as_possible(side):
    starts = tile_starts(side, 32)
    covered = np.zeros(max(side, 32), bool)
    for start in starts:
        covered[start : start + 32] = True
    assert covered[:side].all()
    assert len(starts) == max(1, -(-side // 32))
    assert starts[-1] + 32 == side or len(starts) == 1


def test_tiles_are_listed_row_by_row():
    assert tiles_of(32, 50, 32) == [Tile(0, 0, 32, 32), Tile(0, 18, 32, 32)]


def test_a_small_image_is_reflected_beyond_its_valid_part():
    image = np.arange(20 * 40).reshape(20, 40)
    (tile, _) = tiles_of(20, 40, 32)
    result = cut(image, tile, 32)
    assert (tile.valid_height, tile.valid_width) == (20, 32)
    np.testing.assert_array_equal(result[:20], image[:, :32])
    np.testing.assert_array_equal(result[20:], image[18:6:-1, :32])


def test_an_image_of_one_pixel_fills_its_tile():
    image = np.full((1, 1, 3), 7, np.uint8)
    (tile,) = tiles_of(1, 1, 32)
    np.testing.assert_array_equal(cut(image, tile, 32), 7)


def test_a_limit_keeps_tiles_that_are_evenly_spread():
    every = tiles_of(96, 160, 32)
    assert len(every) == 15
    assert tiles_of(96, 160, 32, most=15) == tiles_of(96, 160, 32, most=99) == every
    assert tiles_of(96, 160, 32, most=1) == [every[7]]
    assert tiles_of(96, 160, 32, most=3) == [every[2], every[7], every[12]]


@pytest.mark.parametrize(
    ("num_tiles", "most", "expected"),
    [
        (25, 3, [0, 12, 24]),
        (5, 9, [0, 1, 2, 3, 4]),
        (7, 1, [0]),
        (7, 0, []),
        (1, 4, [0]),
    ],
)
def test_some_of_all_tiles_are_spread_evenly(num_tiles, most, expected):
    assert spread_evenly(num_tiles, most) == expected
