import numpy as np
import pytest
from scipy import ndimage

from fusionproxy_jax.evaluation.controls import (
    CONTROLS,
    rgb_to_ycrcb,
    ycrcb_to_rgb,
)

# As OpenCV converts them.
COLOURS = {
    (0, 0, 0): (0, 128, 128),
    (255, 255, 255): (255, 128, 128),
    (255, 0, 0): (76, 255, 85),
    (0, 255, 0): (150, 21, 43),
    (0, 0, 255): (29, 107, 255),
    (200, 120, 40): (135, 174, 74),
}


def random_pair(height=53, width=38, seed=0):
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.random((height, width, 4)), (3, 3, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    levels = np.round(60 + 130 * smooth).astype(np.uint8)
    return levels[..., :3], levels[..., 3]


def grey(luma):
    return np.repeat(luma[..., None], 3, axis=2)


@pytest.mark.parametrize(("rgb", "ycrcb"), COLOURS.items())
def test_colours_convert_as_in_opencv(rgb, ycrcb):
    converted = rgb_to_ycrcb(np.array([[rgb]], np.uint8))
    assert tuple(converted[0, 0].tolist()) == ycrcb


def test_colours_come_back_within_two_levels():
    visible, _ = random_pair()
    back = ycrcb_to_rgb(rgb_to_ycrcb(visible))
    assert np.abs(back.astype(int) - visible).max() <= 2


@pytest.mark.parametrize("control", CONTROLS)
def test_the_visible_colours_are_kept(control):
    visible, infrared = random_pair()
    before = visible.copy(), infrared.copy()
    fused = CONTROLS[control](visible, infrared)
    assert fused.shape == visible.shape and fused.dtype == np.uint8
    chroma, expected = rgb_to_ycrcb(fused)[..., 1:], rgb_to_ycrcb(visible)[..., 1:]
    inside = np.all((fused > 0) & (fused < 255), axis=-1)
    assert inside.mean() > 0.9
    assert np.abs(chroma[inside].astype(int) - expected[inside]).max() <= 2
    np.testing.assert_array_equal(visible, before[0])
    np.testing.assert_array_equal(infrared, before[1])


@pytest.mark.parametrize(
    ("control", "expected"), [("mean", 150), ("max", 200), ("msx", 200), ("lp", 200)]
)
def test_flat_sources_fuse_to_a_flat_image(control, expected):
    visible = np.full((40, 51, 3), 100, np.uint8)
    infrared = np.full((40, 51), 200, np.uint8)
    assert np.all(CONTROLS[control](visible, infrared) == expected)


@pytest.mark.parametrize("size", [(48, 64), (53, 39), (41, 97)])
def test_a_pyramid_of_equal_sources_reconstructs_them(size):
    _, luma = random_pair(*size)
    np.testing.assert_array_equal(CONTROLS["lp"](grey(luma), luma), grey(luma))


def test_the_pyramid_takes_detail_from_the_source_that_has_it():
    _, texture = random_pair(64, 64)
    texture = np.clip(2 * texture.astype(int) - 120, 0, 255).astype(np.uint8)
    dark = np.zeros_like(texture)
    for visible, infrared in ((texture, dark), (dark, texture)):
        fused = CONTROLS["lp"](grey(visible), infrared)
        assert np.abs(fused[..., 0].astype(int) - texture).max() <= 1


def test_msx_adds_the_detail_a_blur_removes():
    visible, infrared = random_pair()
    luma = rgb_to_ycrcb(visible)[..., 0].astype(float)
    blurred = ndimage.gaussian_filter(luma, 3, truncate=4.0, mode="mirror")
    expected = np.round(infrared + luma - blurred)
    fused = rgb_to_ycrcb(CONTROLS["msx"](visible, infrared))[..., 0]
    assert np.abs(fused - expected).max() <= 1
