"""Index of safetensors files: a JSON header with shapes and places, then the values.

Layout: length of the header (8 bytes, little-endian), header, data; places count from
the first byte of the data.
"""

import json
import os
import struct
from types import MappingProxyType
from typing import Any, BinaryIO

from fusionproxy_jax.checkpoints.stored_tensor import (
    RefusedFileError,
    StoredTensor,
    is_count,
    is_shape,
    quoted,
    row_major,
    stored_type,
)

HEADER_LENGTH = struct.Struct("<Q")
# Of the format itself.
MAX_HEADER = 100_000_000

TYPE_NAMES = MappingProxyType(
    {
        "F64": "float64",
        "F32": "float32",
        "F16": "float16",
        "BF16": "bfloat16",
        "I64": "int64",
        "I32": "int32",
        "I16": "int16",
        "I8": "int8",
        "U8": "uint8",
        "BOOL": "bool",
    }
)


def index_safetensors(file: BinaryIO) -> dict[str, StoredTensor]:
    """Returns where the tensors of a safetensors file are, by name.

    Raises:
        RefusedFileError: It is truncated, damaged, or has types not read here.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    (header_length,) = HEADER_LENGTH.unpack(file.read(HEADER_LENGTH.size))
    start = HEADER_LENGTH.size + header_length
    if header_length > MAX_HEADER or start > length:
        raise RefusedFileError(
            "is truncated: it ends within its header; fetch it again"
        )
    try:
        header = json.loads(file.read(header_length))
        header.pop("__metadata__", None)
        entries = [_entry(name, values) for name, values in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RefusedFileError(
            "is damaged: its safetensors header cannot be read; fetch it again"
        ) from error
    tensors = {}
    for name, tensor, end in entries:
        size = tensor.span * tensor.type.stored.itemsize
        if tensor.start + size != end:
            raise RefusedFileError(
                f"is damaged: the size of {quoted(name)} does not fit its shape; fetch "
                "it again"
            )
        if start + end > length:
            raise RefusedFileError(
                "is truncated: it ends within a tensor; fetch it again"
            )
        tensors[name] = tensor._replace(start=start + tensor.start)
    return tensors


def _entry(name: str, values: dict[str, Any]) -> tuple[str, StoredTensor, int]:
    shape, (begin, end) = tuple(values["shape"]), values["data_offsets"]
    if not (is_shape(shape) and is_count(begin) and is_count(end)):
        raise ValueError("no shape or place")
    if values["dtype"] not in TYPE_NAMES:
        raise RefusedFileError(
            f"has values of type {quoted(values['dtype'])} in {quoted(name)}; only "
            f"{', '.join(TYPE_NAMES)} are read"
        )
    element = stored_type(TYPE_NAMES[values["dtype"]])
    return name, StoredTensor(begin, element, shape, row_major(shape)), end
