from pathlib import Path

import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.pairing import find_pairs
from fusionproxy_jax.runtime.partners import matched, some_names


def _touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


# Folders of one pair as released, and the ids and groups they give.
LAYOUTS = {
    "plain": (["visible/7.png", "infrared/7.png"], "d/7", "d/7"),
    "RoadScene": (
        [
            "crop_LR_visible/F_1.jpg",
            "cropinfrared/F_1.jpg",
            "crop_HR_visible/F_1.jpg",
            "infrared/F_1.jpg",
        ],
        "d/F_1",
        "d/F_1",
    ),
    "MSRS": (
        ["train/vi/0N.png", "train/ir/0N.png", "train/Segmentation_labels/0N.png"],
        "d/train/0N",
        "d/train/0N",
    ),
    "M3FD": (["Vis/00.png", "Ir/00.png", "Annotation/00.xml"], "d/00", "d/00"),
    "TNO folders": (["vi/1.bmp", "ir/1.bmp"], "d/1", "d/1"),
    "TNO scene": (
        ["Athena_images/bunker/VIS_012_r.bmp", "Athena_images/bunker/IR_012_r.bmp"],
        "d/Athena_images/bunker/012_r",
        "d/Athena_images/bunker/012_r",
    ),
    "LLVIP": (
        ["visible/train/01.jpg", "infrared/train/01.jpg", "Annotations/01.xml"],
        "d/train/01",
        "d/train/01",
    ),
    "own names": (["RGB/a_rgb.tiff", "thermal/a_thermal.png"], "d/a_rgb", "d/a_rgb"),
}


@pytest.mark.parametrize(("names", "pair_id", "group"), LAYOUTS.values(), ids=LAYOUTS)
def test_released_layouts_are_recognised(tmp_path, names, pair_id, group):
    clutter = ("Thumbs.db", ".DS_Store", ".hidden.png", "readme.txt")
    _touch(tmp_path / "d", *names)
    _touch((tmp_path / "d" / names[0]).parent, *clutter)
    (pair,) = find_pairs(tmp_path / "d")
    assert (pair.id, pair.group) == (pair_id, group)
    assert pair.visible == tmp_path / "d" / names[0]
    assert pair.infrared == tmp_path / "d" / names[1]


def test_frames_of_one_clip_are_one_group(tmp_path):
    frames = [
        f"clip_{c}/{kind}/{frame:04}.png"
        for c in "ab"
        for kind in ("visible", "infrared")
        for frame in range(3)
    ]
    _touch(tmp_path, *frames)
    pairs = find_pairs(tmp_path, name="video")
    assert [pair.id for pair in pairs[:2]] == ["video/clip_a/0000", "video/clip_a/0001"]
    assert [pair.group for pair in pairs] == ["video/clip_a"] * 3 + ["video/clip_b"] * 3


def test_subsets_of_a_data_set_are_not_clips(tmp_path):
    for subset in ("train", "test"):
        _touch(tmp_path, *(f"{subset}/{k}/{i}.png" for k in ("vi", "ir") for i in "12"))
    pairs = find_pairs(tmp_path, name="msrs")
    assert len({pair.group for pair in pairs}) == 4


def test_missing_partners_are_named_on_both_sides(tmp_path):
    _touch(tmp_path, "vi/1.png", "vi/2.png", "ir/2.png", "ir/3.png")
    with pytest.raises(FusionProxyError) as error:
        find_pairs(tmp_path)
    assert "no infrared partner for" in str(error.value)
    assert str(Path("vi", "1.png")) in str(error.value)
    assert str(Path("ir", "3.png")) in str(error.value)
    assert "2.png" not in str(error.value)


BAD_FOLDERS = {
    "nothing": ([], "no pairs under"),
    "visible only": (["visible/1.png"], "no pairs under"),
    "two visible": (["vi/1.png", "vis/1.png", "ir/1.png"], "several .* vi, vis"),
    "two formats": (["vi/1.png", "vi/1.jpg", "ir/1.png"], "same name without suffix"),
}


@pytest.mark.parametrize(
    ("names", "sentence"), BAD_FOLDERS.values(), ids=BAD_FOLDERS.keys()
)
def test_a_folder_that_is_no_clear_set_of_pairs_is_refused(tmp_path, names, sentence):
    _touch(tmp_path, *names)
    with pytest.raises(FusionProxyError, match=sentence):
        find_pairs(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FusionProxyError, match="no folder"):
        find_pairs(tmp_path / "nowhere")


def test_words_for_the_camera_are_not_part_of_the_name():
    visible = {"a_rgb_1": Path("v1"), "a_rgb_2": Path("v2")}
    infrared = {"a-IR-2": Path("i2"), "a-IR-1": Path("i1")}
    assert matched(visible, infrared) == [
        ("a_rgb_1", Path("v1"), Path("i1")),
        ("a_rgb_2", Path("v2"), Path("i2")),
    ]


def test_ambiguous_names_are_not_guessed():
    visible = {"1_rgb": Path("a"), "1_vis": Path("b")}
    with pytest.raises(FusionProxyError, match="no infrared partner for a, b"):
        matched(visible, {"1_ir": Path("c")})


def test_long_lists_are_cut():
    assert some_names("abcde") == "a, b, c, d, e"
    assert some_names("abcdefg") == "a, b, c, d, e and 2 more"


def test_the_real_sets_give_their_pairs_and_clips(real_data):
    pairs = {
        name: find_pairs(real_data / name)
        for name in ("roadscene", "msrs", "m3fd", "m3svd", "llvip_labelled")
    }
    counts = {name: len(found) for name, found in pairs.items()}
    assert counts == {
        "roadscene": 171,
        "msrs": 8,
        "m3fd": 5,
        "m3svd": 28,
        "llvip_labelled": 6,
    }
    clips = {pair.group for pair in pairs["m3svd"]}
    assert len(clips) == 5
    assert "m3svd/0111_1716" in clips
    assert len({pair.group for pair in pairs["roadscene"]}) == 171
