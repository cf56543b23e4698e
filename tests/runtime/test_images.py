import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime import images
from fusionproxy_jax.runtime.images import read_infrared, read_visible, write_image
from fusionproxy_jax.runtime.sixteen_bit import encode_png

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (21, 34, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (21, 34), dtype=np.uint8)
COUNTS = RNG.integers(0, 65536, (21, 34), dtype=np.uint16)
COLOUR16 = RNG.integers(0, 65536, (21, 34, 3), dtype=np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
@pytest.mark.parametrize("array", [COLOUR, GREY], ids=["colour", "grey"])
def test_eight_bit_images_come_back_as_written(tmp_path, suffix, array):
    write_image(tmp_path / f"image{suffix}", array)
    read = read_visible if array.ndim == 3 else read_infrared
    np.testing.assert_array_equal(read(tmp_path / f"image{suffix}"), array)


def test_jpeg_comes_back_almost_as_written(tmp_path):
    rows, columns = np.mgrid[0:96, 0:96]
    smooth = np.stack([rows, columns, 200 - rows], axis=2).astype(np.uint8)
    write_image(tmp_path / "image.jpg", smooth)
    difference = read_visible(tmp_path / "image.jpg").astype(int) - smooth
    assert np.abs(difference).max() <= 3


@pytest.mark.parametrize("array", [COLOUR16, COUNTS], ids=["colour", "grey"])
def test_sixteen_bit_png_comes_back_as_written(tmp_path, array):
    write_image(tmp_path / "image.png", array)
    read = read_visible if array.ndim == 3 else read_infrared
    np.testing.assert_array_equal(read(tmp_path / "image.png"), array)


def test_sixteen_bit_infrared_tiff_and_float_tiff_keep_their_values(tmp_path):
    Image.fromarray(COUNTS).save(tmp_path / "counts.tiff")
    np.testing.assert_array_equal(read_infrared(tmp_path / "counts.tiff"), COUNTS)
    degrees = (COUNTS / 100 - 20).astype(np.float32)
    Image.fromarray(degrees).save(tmp_path / "degrees.tiff")
    np.testing.assert_array_equal(read_infrared(tmp_path / "degrees.tiff"), degrees)


def test_alpha_is_dropped_and_palettes_are_resolved(tmp_path):
    alpha = np.concatenate([COLOUR, GREY[..., None]], axis=2)
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_visible(tmp_path / "alpha.png"), COLOUR)

    palette = Image.fromarray(COLOUR // 128 * 128).convert("P", palette=1, colors=8)
    palette.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(read_visible(tmp_path / "palette.png"), expected)


def test_grey_visible_and_colour_infrared_files_get_their_channels(tmp_path):
    write_image(tmp_path / "grey.png", GREY)
    expected = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_visible(tmp_path / "grey.png"), expected)
    write_image(tmp_path / "colour.png", expected)
    np.testing.assert_array_equal(read_infrared(tmp_path / "colour.png"), GREY)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_the_orientation_a_camera_noted_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(COLOUR).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_visible(path), expected)


def _png(array):
    if array.dtype == np.uint16 and array.ndim == 3:
        return encode_png(array)
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def _flipped(data, position):
    return data[:position] + bytes([data[position] ^ 255]) + data[position + 1 :]


BAD_FILES = {
    "empty": (b"", "is an empty file"),
    "text": (b"not an image", "cannot be read; it is damaged"),
    "cut short": (_png(COLOUR)[:900], "cannot be read"),
    "cut short, 16 bit": (_png(COLOUR16)[:2000], "cannot be read"),
    "header damaged": (_flipped(_png(COLOUR), 13), "cannot be read"),
    "data damaged": (_flipped(_png(COLOUR), 600), "cannot be read"),
    "1x1": (_png(COLOUR[:1, :1]), "is 1x1 px; both sides must be at least 16 px"),
    "20000x3": (_png(np.zeros((3, 20000, 3), np.uint8)), "20000x3 px"),
}


@pytest.mark.parametrize(("data", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
@pytest.mark.parametrize("read", [read_visible, read_infrared])
def test_a_bad_file_is_refused_by_name(tmp_path, read, data, sentence):
    path = tmp_path / "image.png"
    path.write_bytes(data)
    with pytest.raises(FusionProxyError, match=f"image {path} .*{sentence}"):
        read(path)


def test_an_enormous_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    write_image(tmp_path / "image.png", COLOUR)
    monkeypatch.setattr(images, "MAX_PIXELS", 700)
    with pytest.raises(FusionProxyError, match="more than 700 pixels"):
        read_visible(tmp_path / "image.png")


def test_a_missing_file_and_a_float_visible_file_are_refused(tmp_path):
    with pytest.raises(FusionProxyError, match="does not exist"):
        read_visible(tmp_path / "nowhere.png")
    Image.fromarray(COUNTS.astype(np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(FusionProxyError, match="holds float"):
        read_visible(tmp_path / "float.tiff")


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("image.gif", COLOUR, "the suffix must be one of"),
        ("image.jpg", COLOUR16, "16-bit images are written as .png"),
        ("image.png", COLOUR / 255, "from float64"),
    ],
)
def test_what_a_format_cannot_hold_is_not_written(tmp_path, name, array, sentence):
    with pytest.raises(FusionProxyError, match=sentence):
        write_image(tmp_path / name, array)
    assert list(tmp_path.iterdir()) == []


def test_real_infrared_stored_as_colour_is_read_as_one_channel(real_data):
    path = real_data / "m3fd" / "infrared" / "00082.png"
    with Image.open(path) as image:
        assert image.mode == "RGB"
        expected = np.asarray(image)[..., 0]
    np.testing.assert_array_equal(read_infrared(path), expected)
