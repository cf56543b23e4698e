"""Index of torch's files before 1.6: successive pickles, then the storages.

The pickles are a magic number, a protocol version, a description of the writing
machine, the object, and the keys of its storages; then follow, in the order of the
keys, a count of elements (8 bytes, little-endian) and the elements.
"""

import os
import struct
from typing import BinaryIO

from fusionproxy_jax.checkpoints.restricted_unpickler import load_torch_pickle
from fusionproxy_jax.checkpoints.state_dict import find_state_dict
from fusionproxy_jax.checkpoints.stored_tensor import RefusedFileError, StoredTensor
from fusionproxy_jax.checkpoints.torch_records import Storage

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT = struct.Struct("<q")


def index_legacy(file: BinaryIO) -> dict[str, StoredTensor]:
    """Returns where the tensors of a legacy torch file are, by name.

    Raises:
        RefusedFileError: It is damaged, no file of tensors, or big-endian.
    """
    file.seek(0)
    (magic, _), (protocol, _), (machine, _) = (
        load_torch_pickle(file) for _ in range(3)
    )
    if magic != LEGACY_MAGIC or protocol != _PROTOCOL or not isinstance(machine, dict):
        raise RefusedFileError(
            f"begins as a legacy torch file, but not of protocol {_PROTOCOL}; save it "
            "again with a newer torch"
        )
    if machine.get("little_endian") is not True:
        raise RefusedFileError(
            "was written on a big-endian machine; only little-endian files are read"
        )
    content, storages = load_torch_pickle(file)
    keys, _ = load_torch_pickle(file)
    tensors = find_state_dict(content)
    starts = _storage_starts(file, keys, storages)
    return {
        name: StoredTensor(
            starts[t.storage.key] + t.offset * t.storage.type.stored.itemsize,
            t.storage.type,
            t.shape,
            t.strides,
        )
        for name, t in tensors.items()
    }


def _storage_starts(
    file: BinaryIO, keys: object, storages: dict[str, Storage]
) -> dict[str, int]:
    """Returns the first byte of every storage, without reading one."""
    known = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not known or sorted(keys) != sorted(storages):
        raise RefusedFileError(
            "is damaged: its storages are not those of its tensors; fetch it again"
        )
    place = file.tell()
    length = file.seek(0, os.SEEK_END)
    starts = {}
    for key in keys:
        storage = storages[key]
        starts[key] = place + _COUNT.size
        file.seek(place)
        stated = file.read(_COUNT.size)
        place = starts[key] + storage.num_elements * storage.type.stored.itemsize
        if place > length:
            raise RefusedFileError(
                "is truncated: it ends within a tensor; fetch it again"
            )
        if _COUNT.unpack(stated) != (storage.num_elements,):
            raise RefusedFileError(
                "is damaged: a storage has another size than its tensors say; fetch it "
                "again"
            )
    return starts
