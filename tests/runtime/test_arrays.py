import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.arrays import (
    as_float_infrared,
    as_float_visible,
    checked_infrared,
    checked_visible,
    from_float,
)

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (18, 25, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (18, 25), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_integer_survives_the_way_to_float_and_back(dtype):
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    image = np.resize(values, (values.size // 32 + 16, 32, 3))
    np.testing.assert_array_equal(from_float(as_float_visible(image), dtype), image)


def test_white_is_one_in_every_dtype():
    for white in (np.uint8(255), np.uint16(65535), np.float32(1), np.float64(1)):
        image = np.full((16, 16, 3), white)
        assert np.all(as_float_visible(image) == 1)
        assert np.all(from_float(np.ones((16, 16, 3)), image.dtype) == white)


def test_grey_visible_becomes_three_equal_channels():
    for grey in (GREY, GREY[..., None]):
        checked = checked_visible(grey)
        assert checked.shape == (18, 25, 3)
        assert np.all(checked == GREY[..., None])


def test_infrared_stored_as_colour_becomes_one_channel():
    stored = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_array_equal(checked_infrared(stored), GREY)


def test_channels_that_jpeg_moved_a_little_become_luma():
    stored = np.stack([GREY // 2, GREY // 2 + 2, GREY // 2 + 1], axis=2)
    luma = stored @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(checked_infrared(stored), luma, atol=0.5001)


def test_eight_bit_infrared_is_not_stretched():
    dim = (GREY // 8).astype(np.uint8)
    np.testing.assert_array_equal(as_float_infrared(dim), dim / np.float32(255))


def test_float_infrared_in_the_unit_range_stays_and_degrees_are_normalised():
    unit = (0.2 + 0.3 * GREY / 255).astype(np.float32)
    np.testing.assert_array_equal(as_float_infrared(unit), unit)
    degrees = 15 + 20 * unit
    assert as_float_infrared(degrees).min() == 0
    assert as_float_infrared(degrees).max() == 1


NAN = np.full((18, 25, 3), np.nan, np.float32)
BAD_VISIBLE = {
    "alpha": (np.zeros((18, 25, 4), np.uint8), "shape .18, 25, 4.; it must be colour"),
    "two channels": (np.zeros((18, 25, 2), np.uint8), "must be colour"),
    "channels first": (np.zeros((3, 18, 25), np.uint8), "must be colour"),
    "batch": (np.zeros((1, 18, 25, 3), np.uint8), "must be colour"),
    "int64": (np.zeros((18, 25, 3), np.int64), "is int64; it must be uint8"),
    "bool": (np.zeros((18, 25, 3), bool), "is bool"),
    "no image": (None, "is object"),
    "too small": (np.zeros((15, 25, 3), np.uint8), "25x15 px; both sides must be"),
    "empty": (np.zeros((0, 0, 3), np.uint8), "0x0 px"),
    "NaN": (NAN, "has 1350 NaN or infinite values"),
    "float of 255": (np.full((18, 25, 3), 255.0), "float64 with values from 255"),
}
BAD_INFRARED = {
    "two channels": (np.zeros((18, 25, 2), np.uint8), "must be grey"),
    "alpha": (np.zeros((18, 25, 4), np.uint8), "must be grey"),
    "false colour": (COLOUR, "false-colour rendering; export it"),
    "too small": (np.zeros((1, 1), np.uint16), "1x1 px"),
    "int32": (np.zeros((18, 25), np.int32), "is int32"),
    "NaN": (NAN[..., 0], "450 NaN"),
}


@pytest.mark.parametrize(("array", "sentence"), BAD_VISIBLE.values(), ids=BAD_VISIBLE)
def test_a_bad_visible_array_is_refused(array, sentence):
    with pytest.raises(FusionProxyError, match=f"the visible image.*{sentence}"):
        as_float_visible(array)


@pytest.mark.parametrize(("array", "sentence"), BAD_INFRARED.values(), ids=BAD_INFRARED)
def test_a_bad_infrared_array_is_refused(array, sentence):
    with pytest.raises(FusionProxyError, match=f"the infrared image.*{sentence}"):
        as_float_infrared(array)


def test_the_overshoot_of_a_resize_does_not_change_how_infrared_is_read():
    infrared = np.linspace(0.2, 0.6, 400, dtype=np.float32).reshape(20, 20)
    beyond = infrared.copy()
    beyond[0, 0], beyond[0, 1] = -0.03, 1.04
    read = as_float_infrared(beyond)
    np.testing.assert_array_equal(read[1:], infrared[1:])
    assert read[0, 0] == 0 and read[0, 1] == 1
