"""Synthetic scenes have the answers they claim to have."""

import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.synthetic import (
    SCENES,
    SyntheticPairs,
    synthetic_pair,
)


def contrast(image, mask):
    """Mean difference between the masked part and a band around it."""
    grey = image.mean(axis=-1) / 255 if image.ndim == 3 else image
    near = mask.copy()
    for _ in range(5):
        near[1:] |= near[:-1]
        near[:-1] |= near[1:]
        near[:, 1:] |= near[:, :-1]
        near[:, :-1] |= near[:, 1:]
    return grey[mask].mean() - grey[near & ~mask].mean()


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("size", [(32, 32), (45, 83), (120, 160)])
def test_every_scene_comes_at_every_size(scene, size):
    pair = synthetic_pair(3, height=size[0], width=size[1], scene=scene)
    assert pair["visible"].shape == (*size, 3)
    assert pair["visible"].dtype == np.uint8
    assert pair["infrared"].shape == size
    assert pair["infrared"].dtype == np.float32
    assert 0 <= pair["infrared"].min() < pair["infrared"].max() <= 1
    for name in ("person_mask", "car_mask", "warm_mask"):
        assert pair[name].shape == size
        assert pair[name].dtype == bool
        assert pair[name].any()


def test_seed_and_index_fix_the_pair():
    first, again = synthetic_pair(5, seed=1), synthetic_pair(5, seed=1)
    for key in ("visible", "infrared", "person_mask", "car_mask", "warm_mask"):
        np.testing.assert_array_equal(first[key], again[key])
    for other in (synthetic_pair(9, seed=1), synthetic_pair(5, seed=2)):
        assert np.any(other["person_mask"] != first["person_mask"])
        assert other["id"] != first["id"]


def test_size_changes_the_resolution_and_not_the_scene():
    small = synthetic_pair(2, height=120, width=160)["person_mask"]
    large = synthetic_pair(2, height=240, width=320)["person_mask"]
    coarse = large.reshape(120, 2, 160, 2).mean(axis=(1, 3)) > 0.5
    assert np.mean(coarse != small) < 0.01


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("index", range(4))
def test_people_are_warm_in_every_scene(scene, index):
    pair = synthetic_pair(index, scene=scene)
    assert contrast(pair["infrared"], pair["person_mask"]) > 0.2
    assert pair["infrared"][pair["person_mask"]].mean() > 0.65


@pytest.mark.parametrize("index", range(4))
def test_people_are_invisible_at_night(index):
    pair = synthetic_pair(index, scene="night")
    grey = pair["visible"].mean(axis=-1) / 255
    assert np.median(grey[pair["person_mask"]]) < 0.05
    day = synthetic_pair(index, scene="day")["visible"].mean(axis=-1) / 255
    mask = pair["person_mask"]
    assert grey[mask].std() < 0.25 * day[mask].std()


def test_fog_takes_contrast_from_the_visible_image_only():
    for index in range(4):
        day, fog = (synthetic_pair(index, scene=scene) for scene in ("day", "fog"))
        assert fog["visible"].std() < 0.6 * day["visible"].std()
        assert fog["infrared"].std() > 0.7 * day["infrared"].std()


def test_glare_saturates_the_visible_image_only():
    for index in range(4):
        pair = synthetic_pair(index, scene="glare")
        assert 0.005 < np.mean(pair["visible"].min(axis=-1) > 250) < 0.3
        assert np.mean(pair["infrared"] > 0.98) < 0.01


def test_hot_parts_of_cars_are_warmer_than_their_bodies():
    pair = synthetic_pair(1, scene="day")
    warm = pair["car_mask"] & pair["warm_mask"]
    body = pair["car_mask"] & ~pair["warm_mask"]
    assert pair["infrared"][warm].mean() > pair["infrared"][body].mean() + 0.15
    assert not np.any(pair["person_mask"] & pair["car_mask"])
    assert np.all(pair["warm_mask"] >= pair["person_mask"])


def test_a_series_goes_through_all_scenes():
    source = SyntheticPairs(8, height=32, width=40)
    assert len(source) == 8
    assert [synthetic_pair(i, height=32, width=32)["scene"] for i in range(8)] == [
        *SCENES,
        *SCENES,
    ]
    items = list(source)
    assert len(items) == 8
    assert set(items[0]) == {"id", "group", "visible", "infrared"}
    assert len({item["id"] for item in items}) == 8


def test_impossible_requests_are_refused():
    with pytest.raises(FusionProxyError, match="16x64 is too small"):
        synthetic_pair(0, height=16, width=64)
    with pytest.raises(FusionProxyError, match="scene 'snow' is unknown"):
        synthetic_pair(0, scene="snow")
