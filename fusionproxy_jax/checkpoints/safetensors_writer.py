"""Writing safetensors one tensor at a time, so that they never all lie in memory."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fusionproxy_jax.checkpoints.safetensors_index import HEADER_LENGTH, TYPE_NAMES


class TensorSpec(NamedTuple):
    """What a tensor will be, stated before its values exist."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


def write_safetensors(
    path: Path,
    specs: Iterable[TensorSpec],
    tensors: Iterable[np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    """Writes `tensors`, drawn one by one, under the names of `specs`.

    Raises:
        ValueError: A tensor is not what its spec says, or their numbers differ.
    """
    specs = list(specs)
    header = _header(specs, metadata)
    with path.open("wb") as file:
        file.write(HEADER_LENGTH.pack(len(header)) + header)
        left = iter(specs)
        # Not zip(), whose last pair would keep a tensor while the next one is made.
        for tensor in tensors:
            spec = next(left, None)
            if spec is None or (tensor.dtype, tensor.shape) != spec[1:]:
                raise ValueError(f"{tensor.dtype}{tensor.shape} is not {spec}")
            # As bytes: bfloat16 has no buffer of its own.
            file.write(memoryview(np.ascontiguousarray(tensor).reshape(-1).view("u1")))
            del tensor
        if spec := next(left, None):
            raise ValueError(f"there is no tensor for {spec}")


def _header(specs: list[TensorSpec], metadata: Mapping[str, str]) -> bytes:
    type_names = {name: short for short, name in TYPE_NAMES.items()}
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    place = 0
    for spec in specs:
        end = place + math.prod(spec.shape) * spec.dtype.itemsize
        entries[spec.name] = {
            "dtype": type_names[spec.dtype.name],
            "shape": spec.shape,
            "data_offsets": [place, end],
        }
        place = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    # The data begin on a multiple of 8, so that readers may map them.
    return text + b" " * (-(len(text) + HEADER_LENGTH.size) % 8)
