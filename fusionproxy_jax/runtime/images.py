"""Image files to arrays and back: PNG, TIFF, JPEG, BMP, of 8 and 16 bits.

Arrays are what `runtime.arrays` describes. Alpha is dropped, palettes are resolved, and
the orientation a camera noted in EXIF is applied.
"""

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.arrays import (
    as_float_infrared,
    as_float_visible,
    check_size,
    checked_infrared,
    checked_visible,
)
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.runtime.sixteen_bit import (
    encode_png,
    has_sixteen_bit_colour,
    read_sixteen_bit_colour,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "as_float_infrared",
    "as_float_visible",
    "check_output_format",
    "read_infrared",
    "read_visible",
    "write_image",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# 24 megapixels, as 6000 x 4000: the network needs about 0.2 GB of memory a megapixel.
MAX_PIXELS = 24_000_000

_PILLOW_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
_PILLOW_FORMATS |= {".png": "PNG", ".bmp": "BMP"}
_SAVE_OPTIONS = {
    # Three times faster than Pillow's default, a few percent larger.
    "PNG": {"compress_level": 4},
    "JPEG": {"quality": 95, "subsampling": 0},
    "TIFF": {"compression": "tiff_deflate"},
}
# EXIF orientation -> (transpose, flip rows, flip columns), applied in this order.
_ORIENTATIONS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def read_visible(path: str | Path) -> np.ndarray:
    """Returns a visible image file as uint8 or uint16 RGB [h, w, 3].

    Raises:
      FusionProxyError: no such file, damaged, too small or too large, or float.
    """
    path = Path(path)
    source = f"visible image {path}"
    array = _decode(path, source=source)
    if array.dtype == np.float32:
        raise FusionProxyError(
            f"{source} holds float or 32-bit values; save it with 8 or 16 bits"
        )
    return checked_visible(array, source=source)


def read_infrared(path: str | Path) -> np.ndarray:
    """Returns an infrared image file as uint8, uint16 or float32 [h, w], as stored.

    Raises:
      FusionProxyError: no such file, damaged, too small or too large, NaN, or a
        false-colour rendering.
    """
    path = Path(path)
    source = f"infrared image {path}"
    return checked_infrared(_decode(path, source=source), source=source)


def check_output_format(path: str | Path, dtype: np.dtype) -> None:
    """Raises `FusionProxyError` when `write_image` cannot write `dtype` to `path`."""
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise FusionProxyError(
            f"cannot write {path}: "
            f"the suffix must be one of {', '.join(IMAGE_SUFFIXES)}"
        )
    if dtype == np.uint16 and suffix != ".png":
        raise FusionProxyError(
            f"cannot write 16-bit {path}: 16-bit images are written as .png"
        )
    if dtype not in (np.uint8, np.uint16):
        raise FusionProxyError(
            f"cannot write {path} from {dtype}; convert it to uint8 or uint16"
        )


def write_image(path: str | Path, array: np.ndarray) -> None:
    """Writes uint8 or uint16, RGB [h, w, 3] or grey [h, w].

    The suffix chooses the format. The file appears whole or not at all.

    Raises:
      FusionProxyError: the format cannot hold the array, or the file cannot be written.
    """
    path = Path(path)
    check_output_format(path, array.dtype)
    if array.dtype == np.uint16 and array.ndim == 3:
        data = encode_png(array)
    else:
        # Encoded in memory: Pillow hides the reason of a failed write to disk.
        pillow_format = _PILLOW_FORMATS[path.suffix.lower()]
        stream = io.BytesIO()
        image = Image.fromarray(np.ascontiguousarray(array))
        image.save(stream, pillow_format, **_SAVE_OPTIONS.get(pillow_format, {}))
        data = stream.getvalue()
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _decode(path: Path, *, source: str) -> np.ndarray:
    """Returns a file's samples as uint8, uint16 or float32, [h, w] or [h, w, 3]."""
    if not path.is_file():
        raise FusionProxyError(f"{source} does not exist")
    if path.stat().st_size == 0:
        raise FusionProxyError(f"{source} is an empty file")
    try:
        with Image.open(path) as image:
            return _samples(image, path, source=source)
    except FusionProxyError:
        raise
    except Image.DecompressionBombError as error:
        raise FusionProxyError(_too_large(source)) from error
    # Decoders of damaged files raise whatever they stumble over.
    except Exception as error:
        raise FusionProxyError(
            f"{source} cannot be read; it is damaged, cut short or not a "
            "PNG, JPEG, TIFF or BMP image"
        ) from error


def _samples(image: Image.Image, path: Path, *, source: str) -> np.ndarray:
    width, height = image.size
    check_size(height, width, source=source)
    if width * height > MAX_PIXELS:
        raise FusionProxyError(_too_large(source))
    if has_sixteen_bit_colour(image):
        array = read_sixteen_bit_colour(path)
        array = array[..., 0] if array.shape[2] == 2 else array[..., :3]
    else:
        array = _eight_bit_or_grey(image)
    # Asked after loading: Pillow turns TIFF files itself and then forgets the tag.
    image.load()
    return _oriented(array, image.getexif().get(ExifTags.Base.Orientation, 1))


def _eight_bit_or_grey(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        return np.asarray(image)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        fits = values.min() >= 0 and values.max() <= 65535
        return values.astype(np.uint16 if fits else np.float32)
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("L"))
    if image.mode in ("P", "PA"):
        # By way of RGBA: Pillow warns when transparency is dropped from a palette.
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def _oriented(array: np.ndarray, orientation: int) -> np.ndarray:
    transpose, flip_rows, flip_columns = _ORIENTATIONS.get(
        orientation, (False, False, False)
    )
    if transpose:
        array = array.swapaxes(0, 1)
    if flip_rows:
        array = array[::-1]
    if flip_columns:
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _too_large(source: str) -> str:
    return f"{source} has more than {MAX_PIXELS} pixels; cut or scale it down first"
