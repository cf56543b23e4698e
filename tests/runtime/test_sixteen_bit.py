import struct
import zlib

import numpy as np
import pytest
import tifffile

from fusionproxy_jax.runtime.images import read_infrared, read_visible
from fusionproxy_jax.runtime.sixteen_bit import encode_png

RNG = np.random.default_rng(0)
SAMPLES = RNG.integers(0, 65536, (19, 27, 4), dtype=np.uint16)
COLOUR = SAMPLES[..., :3]
PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def _chunk(kind, data):
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def _png(array, *, filter_type):
    """A 16-bit PNG written byte by byte: filter 0 nothing, 1 left, 2 up."""
    height, width, channels = array.shape
    rows = bytearray()
    lines = [line.astype(">u2").tobytes() for line in array]
    for number, line in enumerate(lines):
        rows.append(filter_type)
        for position, value in enumerate(line):
            step = 2 * channels
            left = line[position - step] if position >= step else 0
            up = lines[number - 1][position] if number else 0
            rows.append((value - (0, left, up)[filter_type]) % 256)
    colour_type = PNG_COLOUR_TYPES[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(rows)))
    return b"\x89PNG\r\n\x1a\n" + body + _chunk(b"IEND", b"")


def test_the_encoder_writes_what_the_format_asks_for():
    assert encode_png(COLOUR, compression=-1) == _png(COLOUR, filter_type=2)


@pytest.mark.parametrize("filter_type", [0, 1, 2])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_png_keeps_all_sixteen_bits(tmp_path, channels, filter_type):
    path = tmp_path / "image.png"
    path.write_bytes(_png(SAMPLES[..., :channels], filter_type=filter_type))
    np.testing.assert_array_equal(read_visible(path), COLOUR)


@pytest.mark.parametrize("filter_type", [0, 1, 2])
def test_grey_png_with_alpha_keeps_all_sixteen_bits(tmp_path, filter_type):
    path = tmp_path / "image.png"
    path.write_bytes(_png(SAMPLES[..., :2], filter_type=filter_type))
    np.testing.assert_array_equal(read_infrared(path), SAMPLES[..., 0])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("rows_per_strip", [4, 19])
def test_colour_tiff_keeps_all_sixteen_bits(
    tmp_path, byteorder, compression, rows_per_strip
):
    path = tmp_path / "image.tiff"
    tifffile.imwrite(
        path,
        COLOUR,
        photometric="rgb",
        byteorder=byteorder,
        compression=compression,
        rowsperstrip=rows_per_strip,
    )
    np.testing.assert_array_equal(read_visible(path), COLOUR)
