"""Torch files written without torch: its pickles opcode by opcode, both forms."""

import io
import pickle
import struct
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_NAMES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


@dataclass
class Storage:
    """Flat values with the key they are written under."""

    key: str
    values: np.ndarray
    # What the pickle claims, if it lies.
    claims: int | None = None
    kind: str | None = None

    @property
    def data(self) -> bytes:
        return self.values.tobytes()


@dataclass
class Tensor:
    """A view of a storage; C order unless strides are given."""

    storage: Storage
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    offset: int = 0
    parameter: bool = False
    flags: dict | None = None

    @property
    def steps(self) -> tuple[int, ...]:
        if self.strides is not None:
            return self.strides
        return np.empty(self.shape, np.uint8).strides


@dataclass
class Name:
    """A global: `module`, `name`."""

    module: str
    name: str


@dataclass
class Call:
    """A global called with arguments when unpickled."""

    function: Any
    arguments: tuple


@dataclass
class Raw:
    """Opcodes as they are."""

    opcodes: bytes


def whole(values: np.ndarray, key: str = "0") -> Tensor:
    """A tensor that is all of its own storage."""
    return Tensor(Storage(key, values.reshape(-1)), values.shape)


def opcodes(value: Any, storages: dict[str, Storage], legacy: bool) -> bytes:
    """Pickle protocol 2 of a value, without its frame; collects its storages."""

    def go(each: Any) -> bytes:
        return opcodes(each, storages, legacy)

    match value:
        case Raw():
            return value.opcodes
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return pickle.dumps(value, 2)[2:-1]
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case tuple():
            return b"(" + b"".join(map(go, value)) + b"t"
        case list():
            return b"](" + b"".join(map(go, value)) + b"e"
        case dict():
            items = (go(key) + go(each) for key, each in value.items())
            return b"}(" + b"".join(items) + b"u"
        case Name():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return go(value.function) + go(value.arguments) + b"R"
        case Storage():
            storages[value.key] = value
            kind = value.kind or STORAGE_NAMES[value.values.dtype.name]
            count = value.values.size if value.claims is None else value.claims
            pid = ("storage", Name("torch", kind), value.key, "cpu", count)
            return go((*pid, None) if legacy else pid) + b"Q"
        case Tensor():
            no_hooks = Call(Name("collections", "OrderedDict"), ())
            arguments = (value.storage, value.offset, value.shape, value.steps)
            rebuilt = Call(
                Name("torch._utils", "_rebuild_tensor_v2"),
                (
                    *arguments,
                    False,
                    no_hooks,
                    *([value.flags] if value.flags else []),
                ),
            )
            if not value.parameter:
                return go(rebuilt)
            return go(
                Call(
                    Name("torch._utils", "_rebuild_parameter"),
                    (rebuilt, True, no_hooks),
                )
            )
    raise TypeError(type(value))


def pickled(value: Any, storages: dict | None = None, *, legacy: bool = False) -> bytes:
    """A complete pickle."""
    return (
        b"\x80\x02"
        + opcodes(value, {} if storages is None else storages, legacy)
        + b"."
    )


def zip_file(value: Any, *, root: str = "archive", **extra: bytes | None) -> bytes:
    """A torch zip file; `extra` adds, replaces or (None) leaves out entries."""
    storages: dict[str, Storage] = {}
    entries = {"data.pkl": pickled(value, storages), "byteorder": b"little"}
    entries |= {f"data/{key}": each.data for key, each in storages.items()}
    entries |= {"version": b"3\n"} | {key: data for key, data in extra.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            if data is not None:
                archive.writestr(f"{root}/{name}", data)
    return buffer.getvalue()


def legacy_file(
    value: Any,
    *,
    protocol: int = 1001,
    little_endian: bool = True,
    counts: dict[str, int] | None = None,
) -> bytes:
    """A torch file as before 1.6; `counts` replaces stated numbers of elements."""
    storages: dict[str, Storage] = {}
    machine = {
        "protocol_version": protocol,
        "little_endian": little_endian,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    head = [pickled(each) for each in (MAGIC, protocol, machine)]
    content = pickled(value, storages, legacy=True)
    keys = sorted(storages)
    data = []
    for key in keys:
        count = (counts or {}).get(key, storages[key].values.size)
        data.append(struct.pack("<q", count) + storages[key].data)
    return b"".join([*head, content, pickled(keys), *data])


FORMS = {"zip": zip_file, "legacy": legacy_file}
