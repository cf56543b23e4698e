"""Pairs come out of every kind of file as equal-sized uint8 and float32."""

import numpy as np
import pytest
from PIL import Image

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pairs import load_pairs
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.input_pipeline.synthetic import synthetic_pair


@pytest.fixture
def folder(tmp_path):
    """An empty pair folder named `set`."""
    for name in ("visible", "infrared"):
        (tmp_path / "set" / name).mkdir(parents=True)
    return tmp_path / "set"


def write(folder, name, visible, infrared):
    Image.fromarray(visible).save(folder / "visible" / name)
    Image.fromarray(infrared).save(folder / "infrared" / name)


def grey(pair):
    return np.round(255 * pair["infrared"]).astype(np.uint8)


def test_a_pair_of_odd_size_is_read_as_it_is(folder):
    pair = synthetic_pair(0, height=35, width=51)
    write(folder, "a.png", pair["visible"], grey(pair))
    source = load_pairs([folder])
    assert source.ids_and_groups == [("set/a", "set/a")]
    read = source[0]
    assert (read["id"], read["group"]) == ("set/a", "set/a")
    np.testing.assert_array_equal(read["visible"], pair["visible"])
    assert read["infrared"].dtype == np.float32
    np.testing.assert_allclose(read["infrared"], grey(pair) / 255, atol=1e-6)


def test_a_grey_visible_image_has_three_equal_channels(folder):
    pair = synthetic_pair(0, height=32, width=40)
    write(folder, "a.png", pair["visible"][..., 0], grey(pair))
    visible = load_pairs([folder])[0]["visible"]
    assert visible.shape == (32, 40, 3)
    np.testing.assert_array_equal(visible, visible[..., :1].repeat(3, axis=2))


def test_a_raw_16_bit_infrared_frame_is_normalised(folder):
    pair = synthetic_pair(1, height=48, width=64)
    # Counts of a sensor that uses a small part of its range.
    raw = (7000 + 900 * pair["infrared"]).astype(np.uint16)
    write(folder, "a.png", pair["visible"], raw)
    infrared = load_pairs([folder])[0]["infrared"]
    assert infrared.dtype == np.float32
    assert 0 <= infrared.min() < 0.05
    assert 0.95 < infrared.max() <= 1
    assert np.corrcoef(infrared.ravel(), pair["infrared"].ravel())[0, 1] > 0.95


def test_a_smaller_infrared_image_gets_the_visible_size(folder):
    visible = synthetic_pair(0, height=64, width=96)["visible"]
    infrared = grey(synthetic_pair(0, height=32, width=48))
    write(folder, "a.png", visible, infrared)
    assert load_pairs([folder])[0]["infrared"].shape == (64, 96)


def test_another_field_of_view_is_refused_by_name(folder):
    visible = synthetic_pair(0, height=64, width=64)["visible"]
    write(folder, "a.png", visible, grey(synthetic_pair(0, height=32, width=64)))
    source = load_pairs([folder])
    with pytest.raises(FusionProxyError, match="'set/a' has a 64x64 px visible"):
        source[0]


def test_a_missing_partner_is_refused_by_name(folder):
    pair = synthetic_pair(0, height=32, width=32)
    write(folder, "a.png", pair["visible"], grey(pair))
    (folder / "infrared" / "a.png").rename(folder / "infrared" / "b.png")
    with pytest.raises(FusionProxyError, match=r"a\.png.*b\.png"):
        load_pairs([folder])


def test_a_damaged_image_is_refused_by_name_when_it_is_read(folder):
    pair = synthetic_pair(0, height=32, width=32)
    write(folder, "a.png", pair["visible"], grey(pair))
    path = folder / "visible" / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    source = load_pairs([folder])
    with pytest.raises(FusionProxyError, match=r"visible/a\.png"):
        source[0]


def test_the_same_pair_twice_is_refused(folder):
    pair = synthetic_pair(0, height=32, width=32)
    write(folder, "a.png", pair["visible"], grey(pair))
    with pytest.raises(FusionProxyError, match="'set/a' comes twice"):
        load_pairs([folder, folder])


def test_no_source_is_refused():
    with pytest.raises(FusionProxyError, match="no data source"):
        load_pairs([])


def test_a_subset_keeps_the_chosen_pairs(folder):
    pair = synthetic_pair(0, height=32, width=32)
    for name in ("a.png", "b.png", "c.png"):
        write(folder, name, pair["visible"], grey(pair))
    subset = load_pairs([folder]).subset([2, 0])
    assert [pair_id for pair_id, _ in subset.ids_and_groups] == ["set/c", "set/a"]
    assert len(subset) == 2
    assert [item["id"] for item in subset] == ["set/c", "set/a"]


def test_real_data_sets_are_read_and_split_by_clip(real_data):
    names = ("roadscene", "msrs", "m3fd", "m3svd")
    source = load_pairs([real_data / name for name in names])
    assert len(source) == 171 + 8 + 5 + 28
    train, validation = split_pairs(source.ids_and_groups, 0.1)
    assert len(train) + len(validation) == len(source)
    clips = {
        frozenset(
            source.ids_and_groups[i][1]
            for i in part
            if "m3svd" in str(source.ids_and_groups[i])
        )
        for part in (train, validation)
    }
    first, second = clips
    assert not first & second
    for index in (0, 171, 179, len(source) - 1):
        pair = source[index]
        assert pair["visible"].dtype == np.uint8
        assert pair["visible"].shape[:2] == pair["infrared"].shape
        assert 0 <= pair["infrared"].min() <= pair["infrared"].max() <= 1


def test_real_visible_frames_at_camera_resolution_are_matched(real_data, folder):
    for path in (real_data / "roadscene" / "visible_highres").iterdir():
        (folder / "visible" / path.name).symlink_to(path)
        infrared = real_data / "roadscene" / "infrared" / path.name
        (folder / "infrared" / path.name).symlink_to(infrared)
    source = load_pairs([folder])
    assert len(source) == 4
    for pair in source:
        assert pair["visible"].shape[:2] == pair["infrared"].shape
