"""The names a torch file may use, and the inert records they stand for here.

Records are immutable tuples, not dataclasses: pickle's BUILD instruction sets
attributes of whatever it is handed, through `__dict__` or `__setstate__`, and so past a
frozen dataclass.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple

from fusionproxy_jax.checkpoints.stored_tensor import (
    RefusedFileError,
    StoredType,
    is_count,
    is_shape,
    span_of,
    stored_type,
)

DAMAGED = "is damaged: {}; fetch it again"


class Storage(NamedTuple):
    """A flat run of elements that tensors view; its values lie elsewhere."""

    key: str
    type: StoredType
    num_elements: int


class TorchTensor(NamedTuple):
    """A strided view of a storage; offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Known(NamedTuple):
    """What a known name stands for in the pickle."""

    build: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.build(*arguments)


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any,
    hooks: Any,
    flags: Any = None,
) -> TorchTensor:
    """Stands for torch._utils._rebuild_tensor_v2."""
    if not (
        isinstance(storage, Storage)
        and is_shape(shape)
        and type(strides) is tuple
        and len(strides) == len(shape)
        and all(is_count(number) for number in (offset, *strides))
        and offset <= storage.num_elements
    ):
        raise RefusedFileError(DAMAGED.format("a tensor is described wrongly"))
    if flags:
        # Ignoring them would read the values with a wrong sign.
        raise RefusedFileError(
            "holds a lazily negated or conjugated tensor; save it again after "
            "`tensor.clone()`"
        )
    tensor = TorchTensor(storage, offset, shape, strides)
    reach = span_of(shape, strides)
    # Repeated values (stride 0) could ask for any amount of memory.
    if max(math.prod(shape), offset + reach) > storage.num_elements:
        raise RefusedFileError(
            "describes a tensor larger than its storage; it is damaged, or was saved "
            "from an expanded tensor: save it again after `tensor.contiguous()`"
        )
    return tensor


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> TorchTensor:
    """Stands for torch._utils._rebuild_parameter."""
    if not isinstance(data, TorchTensor):
        raise RefusedFileError(DAMAGED.format("a parameter is no tensor"))
    return data


def _size(lengths: Any) -> tuple:
    """Stands for torch.Size."""
    if not isinstance(lengths, tuple):
        raise RefusedFileError(DAMAGED.format("a size is no tuple"))
    return lengths


_STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
KNOWN: MappingProxyType[tuple[str, str], Any] = MappingProxyType(
    {
        # Called without arguments by torch; with some, it could copy without end.
        ("collections", "OrderedDict"): _Known(lambda: OrderedDict()),
        ("torch._utils", "_rebuild_tensor_v2"): _Known(_tensor),
        ("torch._utils", "_rebuild_parameter"): _Known(_parameter),
        ("torch", "Size"): _Known(_size),
        # Element types as plain settings, kept as their names.
        **{("torch", name): name for name in _STORAGES.values()},
        **{("torch", name): stored_type(kind) for name, kind in _STORAGES.items()},
    }
)
