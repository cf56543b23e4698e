"""Crops stay inside the valid part; unequal resolutions are matched."""

import numpy as np
import pytest
from tiles import make_tile

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.transforms import (
    crop_and_flip,
    draw_crop,
    match_infrared,
    to_training_features,
)


def test_a_crop_that_fits_stays_inside_the_valid_part_and_reaches_its_edges():
    rng = np.random.default_rng(0)
    starts = {draw_crop(rng, tile_px=64, valid_px=40, crop_px=32) for _ in range(300)}
    assert starts == set(range(9))


def test_a_crop_larger_than_the_valid_part_keeps_all_that_is_valid():
    rng = np.random.default_rng(0)
    assert draw_crop(rng, tile_px=64, valid_px=20, crop_px=32) == 0


def test_rows_and_columns_are_limited_by_their_own_valid_size():
    rng = np.random.default_rng(1)
    tile = make_tile(0, tile_px=64, valid=(34, 60))
    for _ in range(100):
        cut = crop_and_flip(tile, rng, crop_px=32, flip=True)["visible"]
        assert cut[..., 0].max() < 34
        assert cut[..., 1].max() < 60


def test_a_crop_larger_than_the_tile_is_refused():
    with pytest.raises(
        FusionProxyError, match="crop of 96 px does not fit a tile of 64"
    ):
        draw_crop(np.random.default_rng(0), tile_px=64, valid_px=64, crop_px=96)


def test_the_deviation_is_squared_in_float32():
    tile = make_tile(0) | {"ensemble_deviation": np.full((48, 48), 1e-4, np.float16)}
    variance = to_training_features(tile)["ensemble_variance"]
    deviation = np.float32(np.float16(1e-4))
    np.testing.assert_allclose(variance, deviation**2, rtol=1e-6)


def test_white_is_one():
    tile = make_tile(0) | {"visible": np.full((48, 48, 3), 255, np.uint8)}
    np.testing.assert_allclose(to_training_features(tile)["visible"], 1, rtol=1e-6)


def test_a_smaller_infrared_image_is_enlarged():
    ramp = np.tile(np.linspace(0, 1, 20, dtype=np.float32), (16, 1))
    result = match_infrared(ramp, (48, 60), pair_id="a")
    assert result.shape == (48, 60)
    assert result.dtype == np.float32
    np.testing.assert_allclose(
        result[24, 3:-3],
        np.interp(np.arange(3, 57), np.arange(20) * 3 + 1, ramp[0]),
        atol=1e-4,
    )


def test_equal_sizes_are_left_alone():
    infrared = np.zeros((17, 33), np.float32)
    assert match_infrared(infrared, (17, 33), pair_id="a") is infrared


def test_another_field_of_view_is_refused_by_name():
    infrared = np.zeros((24, 32), np.float32)
    with pytest.raises(
        FusionProxyError,
        match="'roof/3' has a 160x90 px visible and a 32x24 px infrared",
    ):
        match_infrared(infrared, (90, 160), pair_id="roof/3")
