"""16-bit colour files, of which Pillow reads the high bytes only and writes none.

Pillow decodes such a file into an 8-bit image and throws the low byte of every sample
away. Decoding it a second time in the other byte order yields the low bytes.
"""

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

# Byte order in Pillow's name of a raw sample layout -> the order with swapped bytes.
_SWAPPED = {
    "16B": "16L",
    "16L": "16B",
    "16N": "16B" if sys.byteorder == "little" else "16L",
}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_RGB, _PNG_RGB_ALPHA = 2, 6


def has_sixteen_bit_colour(image: Image.Image) -> bool:
    """Tells whether an opened, not yet loaded file has 16-bit samples Pillow cuts."""
    if image.mode not in ("RGB", "RGBA"):
        return False
    return any(";16" in _raw_mode(tile) for tile in getattr(image, "tile", ()))


def read_sixteen_bit_colour(path: Path) -> np.ndarray:
    """Returns such a file as uint16 [h, w, channels], alpha included."""
    with Image.open(path) as image:
        if _raw_mode(image.tile[0]).startswith("LA"):
            return _read_png_grey_alpha(path)
        high = np.asarray(image).astype(np.uint16)
    with Image.open(path) as image:
        image.tile = [_with_swapped_bytes(tile) for tile in image.tile]
        low = np.asarray(image).astype(np.uint16)
    return high << 8 | low


def encode_png(array: np.ndarray, *, compression: int = 4) -> bytes:
    """Returns uint16 RGB [h, w, 3] as the bytes of a 16-bit PNG file."""
    height, width, _ = array.shape
    samples = array.astype(">u2").view(np.uint8).reshape(height, width * 6)
    # Filter 2, "up": every byte minus the one above it, modulo 256.
    rows = np.full((height, 1 + samples.shape[1]), 2, np.uint8)
    rows[:, 1:] = samples
    rows[1:, 1:] -= samples[:-1]
    header = struct.pack(">IIBBBBB", width, height, 16, _PNG_RGB, 0, 0, 0)
    return b"".join(
        [
            _PNG_SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), compression)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _raw_mode(tile: tuple) -> str:
    arguments = tile[3]
    return arguments if isinstance(arguments, str) else str(arguments[0])


def _with_swapped_bytes(tile: tuple) -> tuple:
    layout, _, order = _raw_mode(tile).partition(";")
    swapped = f"{layout};{_SWAPPED[order]}"
    arguments = tile.args
    if isinstance(arguments, str):
        return tile._replace(args=swapped)
    return tile._replace(args=(swapped, *arguments[1:]))


def _read_png_grey_alpha(path: Path) -> np.ndarray:
    """Returns a grey-alpha PNG, whose low bytes no raw layout of Pillow's reaches.

    Two 16-bit samples fill the four bytes of an 8-bit RGBA pixel, so the file is
    decoded with a header that says the latter.
    """
    data = path.read_bytes()
    # Signature (8 bytes), length and name (8), then width, height, depth, colour type.
    header = bytearray(data[16:29])
    header[8], header[9] = 8, _PNG_RGB_ALPHA
    patched = data[:8] + _chunk(b"IHDR", bytes(header)) + data[33:]
    with Image.open(io.BytesIO(patched)) as image:
        pixels = np.asarray(image).astype(np.uint16)
    return pixels[..., 0::2] << 8 | pixels[..., 1::2]
