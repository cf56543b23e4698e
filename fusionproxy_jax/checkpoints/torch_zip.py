"""Index of torch's zip files (torch 1.6 and later): one stored entry per storage.

Entries: <root>/data.pkl describes the tensors, <root>/data/<key> is one storage,
<root>/byteorder, where there is one, names the byte order.
"""

import io
import os
import struct
import zipfile
import zlib
from typing import BinaryIO

from fusionproxy_jax.checkpoints.restricted_unpickler import load_torch_pickle
from fusionproxy_jax.checkpoints.state_dict import find_state_dict
from fusionproxy_jax.checkpoints.stored_tensor import (
    RefusedFileError,
    StoredTensor,
    quoted,
)
from fusionproxy_jax.checkpoints.torch_records import Storage, TorchTensor

# Of an entry's own header: signature, and at 26 the lengths of name and extra field.
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 1


class _Archive:
    """The entries of a torch zip file below its root, with their places."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._length = file.seek(0, os.SEEK_END)
        try:
            with zipfile.ZipFile(file) as archive:
                entries = {entry.filename: entry for entry in archive.infolist()}
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            ValueError,
            struct.error,
        ) as error:
            raise RefusedFileError(
                "is truncated or damaged: it begins as a zip file, but its table of "
                "contents is missing; fetch it again"
            ) from error
        roots = [
            name.removesuffix("/data.pkl")
            for name in entries
            if name.count("/") == 1 and name.endswith("/data.pkl")
        ]
        if len(roots) != 1:
            raise RefusedFileError(
                "is a zip file, but not of torch (it has no data.pkl); give a file "
                "written by torch.save"
            )
        self._entries = {
            name.removeprefix(f"{roots[0]}/"): entry for name, entry in entries.items()
        }

    def names(self) -> list[str]:
        return list(self._entries)

    def place(self, name: str) -> tuple[int, int, int]:
        """Returns first byte, length and CRC-32 of an entry.

        Torch can be told to leave checksums out, and then writes 0.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise RefusedFileError(
                f"is damaged: its entry {quoted(name)} is missing; fetch it again"
            )
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
            raise RefusedFileError(
                "was zipped again, with compression or a password; give the file as "
                "torch.save wrote it"
            )
        self._file.seek(entry.header_offset)
        header = self._file.read(_LOCAL_HEADER.size)
        if len(header) == _LOCAL_HEADER.size:
            signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            start = entry.header_offset + len(header) + name_length + extra_length
            fits = start + entry.file_size <= self._length
            if signature == b"PK\3\4" and fits:
                return start, entry.file_size, entry.CRC
        raise RefusedFileError(
            f"is damaged: its entry {quoted(name)} is not where the table of contents "
            "says; fetch it again"
        )

    def read(self, name: str, *, longest: int) -> bytes:
        start, length, crc32 = self.place(name)
        if length > longest:
            raise RefusedFileError(f"has an absurdly long entry {quoted(name)}")
        self._file.seek(start)
        data = self._file.read(length)
        if crc32 and zlib.crc32(data) != crc32:
            raise RefusedFileError(
                "is damaged: a checksum does not fit; fetch it again"
            )
        return data


def index_zip(file: BinaryIO) -> dict[str, StoredTensor]:
    """Returns where the tensors of a torch zip file are, by name.

    Raises:
        RefusedFileError: It is damaged, no file of tensors, or big-endian.
    """
    archive = _Archive(file)
    names = archive.names()
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise RefusedFileError(
            "is a TorchScript program, not a set of tensors; save the state dict of "
            "the module instead"
        )
    if "byteorder" in names and archive.read("byteorder", longest=16) != b"little":
        raise RefusedFileError(
            "was written on a big-endian machine; only little-endian files are read"
        )
    pickled = archive.read("data.pkl", longest=64 * 2**20)
    content, storages = load_torch_pickle(io.BytesIO(pickled))
    tensors = find_state_dict(content)
    places = {key: _storage_place(archive, each) for key, each in storages.items()}
    return {name: _placed(t, *places[t.storage.key]) for name, t in tensors.items()}


def _storage_place(archive: _Archive, storage: Storage) -> tuple[int, int]:
    start, length, crc32 = archive.place(f"data/{storage.key}")
    if length != storage.num_elements * storage.type.stored.itemsize:
        raise RefusedFileError(
            f"is damaged: storage {quoted(storage.key)} has {length} bytes, not "
            f"{storage.num_elements} values of {storage.type.name}; fetch it again"
        )
    return start, crc32


def _placed(tensor: TorchTensor, start: int, crc32: int) -> StoredTensor:
    storage = tensor.storage
    placed = StoredTensor(
        start + tensor.offset * storage.type.stored.itemsize,
        storage.type,
        tensor.shape,
        tensor.strides,
    )
    # The checksum is that of the whole storage.
    whole = placed.span == storage.num_elements
    return placed._replace(crc32=crc32) if whole and crc32 else placed
