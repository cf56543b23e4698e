"""One cached tile as bytes: a JSON header, then its arrays as safetensors.

Layout: length of the header (4 bytes, little endian), header, payload. The header
holds what is no array and the CRC-32 of the payload; the header itself is guarded by
the hash that array_record keeps of every record. Nothing is compressed: decoding is a
copy, so a loader is limited by the disk.
"""

import json
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

_LENGTH = struct.Struct("<I")


class DamagedRecordError(Exception):
    """A record's bytes are not what was written; the caller knows the file."""


def encode(tile: Mapping) -> bytes:
    """Returns a tile (`input_pipeline.schema`) as bytes."""
    arrays = {
        key: np.ascontiguousarray(value)
        for key, value in tile.items()
        if isinstance(value, np.ndarray)
    }
    payload = save(arrays)
    rest = {key: value for key, value in tile.items() if key not in arrays}
    header = json.dumps({"values": rest, "crc32": zlib.crc32(payload)}).encode()
    return _LENGTH.pack(len(header)) + header + payload


def decode(record: bytes) -> dict:
    """Inverse of `encode`.

    Raises:
      DamagedRecordError: header, checksum or arrays do not fit together.
    """
    try:
        (length,) = _LENGTH.unpack_from(record)
        start = _LENGTH.size + length
        header = json.loads(record[_LENGTH.size : start])
        payload = record[start:]
        if zlib.crc32(payload) != header["crc32"]:
            raise DamagedRecordError("the checksum does not fit")
        return {**header["values"], **load(payload)}
    except (struct.error, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedRecordError(str(error)) from error
