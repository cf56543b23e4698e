"""Other programs' weights, opened by content: torch files and safetensors.

No torch is needed: its files are a zip (or a run of pickles) that describes tensors,
and their raw values, which NumPy can view. Opening is safe for files of unknown origin:
the description is read as data, and anything in it that could run code refuses the file
(`restricted_unpickler`). Nothing but the description is read until a tensor is asked
for, and then only that tensor, so files larger than memory can be converted.
"""

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Self

import numpy as np

from fusionproxy_jax.checkpoints.safetensors_index import (
    HEADER_LENGTH,
    MAX_HEADER,
    index_safetensors,
)
from fusionproxy_jax.checkpoints.stored_tensor import RefusedFileError, StoredTensor
from fusionproxy_jax.checkpoints.torch_legacy import LEGACY_MAGIC, index_legacy
from fusionproxy_jax.checkpoints.torch_zip import index_zip
from fusionproxy_jax.errors import FusionProxyError

_Index = Callable[[BinaryIO], dict[str, StoredTensor]]

_TORCH = MappingProxyType({"torch zip": index_zip, "legacy torch": index_legacy})
_SAFETENSORS = MappingProxyType({"safetensors": index_safetensors})

# The magic number as every pickle protocol writes it, without its opcodes.
_LEGACY_BYTES = LEGACY_MAGIC.to_bytes(10, "little")
_FAMILIAR = MappingProxyType(
    {
        b"\x89PNG": "is a PNG image",
        b"\x89HDF": "is an HDF5 file, as Keras writes them",
        b"<": "is a web page, as failed downloads leave them",
        b"version https://git-lfs": "is a Git LFS pointer, not the file itself",
        b"\x80": "is a pickle, but not one that torch.save wrote",
    }
)


class CheckpointFile:
    """Tensors of one open file, by name, read one at a time; a context manager."""

    def __init__(
        self, path: Path, file: BinaryIO, tensors: Mapping[str, StoredTensor]
    ) -> None:
        self.path = path
        self._file = file
        self._tensors = tensors

    def keys(self) -> list[str]:
        """Names of the tensors, in the file's order."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._tensors[name].shape

    def dtype(self, name: str) -> np.dtype:
        """Type that `read` returns: as stored, but bfloat16 as float32."""
        return self._tensors[name].type.values

    def read(self, name: str) -> np.ndarray:
        """Returns the values of one tensor, in C order.

        Raises:
            FusionProxyError: The file ends early, is damaged or cannot be read.
        """
        tensor = self._tensors[name]
        try:
            return tensor.read(self._file)
        except RefusedFileError as error:
            raise FusionProxyError(f"{self.path} {error}") from error
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def close(self) -> None:
        """Closes the file; tensors already read stay valid."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_checkpoint(path: str | Path) -> CheckpointFile:
    """Opens a torch or safetensors file, whatever its suffix.

    A torch file may hold its tensors nested, as {"state_dict": {...}}.

    Raises:
        FusionProxyError: The file is missing, damaged, of another kind, or names
            anything besides tensors and plain settings; nothing was loaded.
    """
    return _open(path, _TORCH | _SAFETENSORS)


def open_torch_file(path: str | Path) -> CheckpointFile:
    """Opens a torch file (.pt, .pth, .bin); see `open_checkpoint`."""
    return _open(path, _TORCH)


def open_safetensors(path: str | Path) -> CheckpointFile:
    """Opens a safetensors file of any program; see `open_checkpoint`."""
    return _open(path, _SAFETENSORS)


def _open(path: str | Path, readers: Mapping[str, _Index]) -> CheckpointFile:
    path = Path(path)
    if not path.is_file():
        raise FusionProxyError(f"there is no checkpoint file {path}; give its path")
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        kind = _kind(file)
        if kind not in readers:
            raise RefusedFileError(
                f"is a {kind} file; give a file of kind {' or '.join(readers)}"
            )
        return CheckpointFile(path, file, readers[kind](file))
    except RefusedFileError as error:
        file.close()
        raise FusionProxyError(f"{path} {error}") from error
    except OSError as error:
        file.close()
        raise _unreadable(path, error) from error


def _kind(file: BinaryIO) -> str:
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(32)
    if head.startswith(b"PK\3\4"):
        return "torch zip"
    if head.startswith(pickle.PROTO) and _LEGACY_BYTES in head:
        return "legacy torch"
    if head[8:9] == b"{" and HEADER_LENGTH.unpack(head[:8])[0] <= MAX_HEADER:
        return "safetensors"
    if length == 0:
        raise RefusedFileError("is empty; fetch it again")
    found = [what for start, what in _FAMILIAR.items() if head.startswith(start)]
    raise RefusedFileError(
        f"{found[0] if found else 'is no checkpoint'}; give a file written by "
        "torch.save or a safetensors file"
    )


def _unreadable(path: Path, error: OSError) -> FusionProxyError:
    return FusionProxyError(f"could not read {path}: {error.strerror or error}")
