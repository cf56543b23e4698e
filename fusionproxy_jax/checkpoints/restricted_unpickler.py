"""Torch's pickles as data: a few known names, every other refused before it is used.

A pickle is a program for a small stack machine, and `pickle.load` lets it import and
call anything. Files of tensors use little of that, so nothing else works here:

1. The instructions are read through first, without running them. One that torch does
   not write, or a name that is not in `torch_records`, refuses the whole file.
2. The known names stand for inert records, not for torch's functions: a tensor becomes
   the place, shape and strides of its values. No torch is needed.
3. The records are immutable, and every tensor must lie within its storage.

What a hostile file can still do is waste time on its own length, at most
`_MAX_PICKLE` bytes; the values of tensors are not part of the pickle.
"""

import io
import pickle
import pickletools
from typing import Any, BinaryIO

from fusionproxy_jax.checkpoints.stored_tensor import (
    RefusedFileError,
    StoredType,
    is_count,
    quoted,
)
from fusionproxy_jax.checkpoints.torch_records import DAMAGED, KNOWN, Storage

# Thousands of tensors take about 1 MB.
_MAX_PICKLE = 64 * 2**20

# What pickle's protocols 2 to 5 need for dicts, lists, plain values and tensors.
_OPCODES = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE SHORT_BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST "
    "APPEND APPENDS EMPTY_DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL BINPERSID REDUCE "
    "BUILD BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET".split()
)


def _known(module: str, name: str) -> Any:
    try:
        return KNOWN[module, name]
    except KeyError:
        raise RefusedFileError(
            f"refers to {quoted(f'{module}.{name}')}, which is not among the names a "
            "file of weights needs (others could run code), so nothing was loaded; use "
            "a file with the state dict alone, or a safetensors file"
        ) from None


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _known(module, name)

    def persistent_load(self, pid: Any) -> Storage:
        # ("storage", type, key, device, elements), then None in legacy files.
        kind, element, key, _, count, *view = pid
        if not (
            kind == "storage"
            and isinstance(element, StoredType)
            and isinstance(key, str)
            and is_count(count)
            and view in ([], [None])
        ):
            raise RefusedFileError(DAMAGED.format("a storage is described wrongly"))
        storage = Storage(key, element, count)
        if self.storages.setdefault(key, storage) != storage:
            raise RefusedFileError(
                DAMAGED.format(f"storage {quoted(key)} has two sizes or types")
            )
        return storage


class _ShortReads:
    """A file from which no single read is long, whatever length a pickle states."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if size > _MAX_PICKLE:
            raise RefusedFileError(DAMAGED.format("a text in it is absurdly long"))
        return self._file.read(size)

    def readline(self) -> bytes:
        return self._file.readline(1024)


def _checked_bytes(file: BinaryIO) -> bytes:
    """Returns the pickle that begins here, once all its opcodes and names are known."""
    start = file.tell()
    for number, (opcode, argument, _) in enumerate(
        pickletools.genops(_ShortReads(file))
    ):
        if opcode.name == "GLOBAL":
            _known(*argument.split(" ", 1))
        if opcode.name not in _OPCODES:
            raise RefusedFileError(
                f"uses the pickle instruction {opcode.name}, which no tensor needs, so "
                "nothing was loaded; use another source of this file"
            )
        # Unpickling reserves memory up to the highest number.
        if opcode.name in ("BINPUT", "LONG_BINPUT") and argument > number:
            raise RefusedFileError(DAMAGED.format("its memo is numbered wrongly"))
        if file.tell() - start > _MAX_PICKLE:
            raise RefusedFileError("describes more than any set of tensors needs")
    length = file.tell() - start
    file.seek(start)
    return file.read(length)


def load_torch_pickle(file: BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """Returns the object pickled at the file's position, and all its storages by key.

    Tensors are `TorchTensor`, containers and plain values themselves. The position
    afterwards is the byte behind the pickle.

    Raises:
        RefusedFileError: The pickle is damaged or names what no tensor needs.
    """
    try:
        unpickler = _TensorUnpickler(_checked_bytes(file))
        return unpickler.load(), unpickler.storages
    except RefusedFileError:
        raise
    # A hostile pickle can provoke any error within the machine: all mean the same.
    except Exception as error:
        raise RefusedFileError(
            DAMAGED.format("the description of its tensors cannot be read")
        ) from error
