"""A malformed tile is refused with the name of what is wrong."""

import numpy as np
import pytest
from tiles import make_tile

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.schema import check_tile, has_panel_features


def test_a_whole_tile_passes():
    check_tile(make_tile(0))
    check_tile(make_tile(0) | {"teacher_mean/ddfm": np.zeros((48, 48, 3), np.float16)})


@pytest.mark.parametrize("key", sorted(make_tile(0)))
def test_a_missing_feature_is_named(key):
    tile = make_tile(0)
    del tile[key]
    with pytest.raises(FusionProxyError, match=f"has no {key}"):
        check_tile(tile)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"infrared": np.zeros((48, 48), np.float32)}, "infrared .* is float32"),
        (
            {"ensemble_mean": np.zeros((48, 48), np.float16)},
            r"be float16 \[48, 48, 3\]",
        ),
        ({"visible": np.zeros((48, 40, 3), np.uint8)}, r"uint8 \[48, 40, 3\]"),
        ({"valid_height": 0}, "valid_height .* is 0; it must be 1 to 48"),
        ({"valid_width": 49}, "valid_width .* is 49; it must be 1 to 48"),
    ],
)
def test_a_wrong_feature_is_named(change, message):
    with pytest.raises(FusionProxyError, match=message):
        check_tile(make_tile(0) | change)


def test_only_panel_features_tie_a_tile_to_its_size():
    tile = make_tile(0)
    assert not has_panel_features(tile | {"teacher_mean/ddfm": 0})
    assert has_panel_features(tile | {"feature_target/vgg16": 0})
    assert has_panel_features(tile | {"feature_deviation/clip": 0})


def test_panel_features_are_a_target_and_a_deviation_of_each_backbone():
    target = {"feature_target/clip": np.zeros((5, 6, 7), np.float16)}
    deviation = {"feature_deviation/clip": np.zeros((9, 9), np.float16)}
    check_tile(make_tile(0) | target | deviation)
    with pytest.raises(FusionProxyError, match="target/clip but no feature_deviation"):
        check_tile(make_tile(0) | target)
    with pytest.raises(FusionProxyError, match="deviation/clip but no feature_target"):
        check_tile(make_tile(0) | deviation)


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        ("target", np.zeros((5, 6, 7), np.float32), r"float32 \[5, 6, 7\]; it must be"),
        ("target", np.zeros((5, 6), np.float16), r"must be float16 \[gh, gw, c\]"),
        ("deviation", np.zeros((9, 9, 1), np.float16), r"must be float16 \[g, g\]"),
    ],
)
def test_a_wrong_panel_feature_is_named(key, array, message):
    tile = make_tile(0) | {
        "feature_target/clip": np.zeros((5, 6, 7), np.float16),
        "feature_deviation/clip": np.zeros((9, 9), np.float16),
        f"feature_{key}/clip": array,
    }
    with pytest.raises(FusionProxyError, match=f"feature_{key}/clip .* {message}"):
        check_tile(tile)
