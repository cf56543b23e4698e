"""One tensor in a checkpoint file: where its bytes lie and how to view them.

Zip and legacy torch files and safetensors all end here: a place in the file, an element
type, a shape and strides. Reading one tensor touches its own bytes only.
"""

import math
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np

# NumPy's own bound is 64; nothing here has more than 5.
_MAX_AXES = 32
# Below NumPy's bound on sizes, which it applies to empty arrays as well.
_MAX_ELEMENTS = 2**59


class RefusedFileError(Exception):
    """Why a file is not read: the rest of a sentence that begins with its path."""


class StoredType(NamedTuple):
    """An element type: its name, and NumPy's view of the stored bytes."""

    name: str
    stored: np.dtype

    @property
    def values(self) -> np.dtype:
        """Type of what is read: as stored, but bfloat16 as float32."""
        native = {"bfloat16": np.float32, "bool": np.bool_}
        return np.dtype(native.get(self.name, self.name))

    def decoded(self, stored: np.ndarray) -> np.ndarray:
        """Returns stored elements as values; exact for every type."""
        if self.name == "bfloat16":
            # The upper half of a float32; widened in place, as it may be large.
            bits = stored.astype(np.uint32)
            bits <<= 16
            return bits.view(np.float32)
        if self.name == "bool":
            return np.asarray(stored != 0)
        return stored.astype(self.values, copy=False)


class StoredTensor(NamedTuple):
    """A tensor in a file; `start` is the byte of its first element."""

    start: int
    type: StoredType
    shape: tuple[int, ...]
    # In elements, as torch counts them; never negative.
    strides: tuple[int, ...]
    # Of the bytes from `start` to the last element, where the file states it.
    crc32: int | None = None

    @property
    def span(self) -> int:
        """Elements from the first to the last, gaps included; 0 if there is none."""
        return span_of(self.shape, self.strides)

    def read(self, file: BinaryIO) -> np.ndarray:
        """Returns the values, in C order.

        Raises:
            RefusedFileError: The file ends early or its checksum does not fit.
        """
        flat = np.empty(self.span, self.type.stored)
        raw = memoryview(flat.view(np.uint8))
        file.seek(self.start)
        if file.readinto(raw) != len(raw):
            raise RefusedFileError("ends within a tensor; fetch it again")
        if self.crc32 is not None and zlib.crc32(raw) != self.crc32:
            raise RefusedFileError(
                "is damaged: a checksum does not fit; fetch it again"
            )
        # Strides that are never taken may be absurd.
        steps = tuple(
            stride * flat.itemsize if length > 1 and flat.size else 0
            for length, stride in zip(self.shape, self.strides, strict=True)
        )
        view = np.lib.stride_tricks.as_strided(flat, self.shape, steps)
        return np.asarray(self.type.decoded(view), order="C")


def is_count(value: object) -> bool:
    """Whether a value is a whole number from 0; True and False are not."""
    return type(value) is int and value >= 0


def is_shape(value: object) -> bool:
    """Whether a value of unknown origin is a shape that an array can have."""
    return (
        type(value) is tuple
        and len(value) <= _MAX_AXES
        and all(is_count(length) for length in value)
        and math.prod(length or 1 for length in value) <= _MAX_ELEMENTS
    )


def span_of(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Returns how many elements of storage a strided tensor reaches over."""
    if math.prod(shape) == 0:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the strides, in elements, of a gapless tensor in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def stored_type(name: str) -> StoredType:
    """Returns the type with NumPy's (or bfloat16's) name, little-endian."""
    bits = {"bfloat16": "uint16", "bool": "uint8"}
    little = np.dtype(bits.get(name, name)).newbyteorder("<")
    # Through its text, so that on little-endian machines it is the native type.
    return StoredType(name, np.dtype(little.str))


def quoted(text: object) -> str:
    """Returns text of unknown origin, fit for one line of an error."""
    plain = ascii(text) if isinstance(text, str) else f"'{type(text).__name__}'"
    return plain if len(plain) <= 80 else f"{plain[:76]}...'"
