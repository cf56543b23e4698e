"""Parameters as safetensors: flat `/`-joined names, plus JSON metadata; NumPy only.

A safetensors file holds arrays and text, no code, so reading one of unknown origin is
safe.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path

Parameters = dict[str, Any]
"""Nested dicts whose leaves are arrays, as Flax makes them."""

METADATA_KEY = "fusionproxy"
"""Safetensors metadata is a flat map of strings; ours is one JSON text under this."""


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested dicts by `/`-joined names."""
    flat = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> Parameters:
    """Returns nested dicts from `/`-joined names."""
    params: Parameters = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        place = params
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value
    return params


def save_weights(
    path: Path, params: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    """Writes parameters and JSON-able metadata, whole or not at all."""
    from safetensors.numpy import save

    # Arrays with a stride would be written in the order of memory.
    arrays = {
        name: np.ascontiguousarray(value) for name, value in flatten(params).items()
    }
    text = json.dumps(dict(metadata), sort_keys=True)
    with atomic_path(path) as temporary:
        # Not by its own writer, whose files nobody but their owner may read.
        temporary.write_bytes(save(arrays, metadata={METADATA_KEY: text}))


def load_weights(path: Path) -> tuple[Parameters, dict[str, Any]]:
    """Returns parameters (nested NumPy arrays) and metadata of `save_weights`.

    Raises:
        FusionProxyError: There is no such file, it is damaged, or another program's.
    """
    # Registers bfloat16 with NumPy, for files that hold it.
    import ml_dtypes  # noqa: F401
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FusionProxyError(
            f"there is no weights file {path}; write one with `fusionproxy export`"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
            flat = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise FusionProxyError(
            f"{path} is damaged or no safetensors file ({error}); fetch or export it "
            "again"
        ) from error
    if metadata is None:
        raise FusionProxyError(
            f"{path} is a safetensors file of another program: it carries no "
            "`fusionproxy` metadata; use one written by `fusionproxy export`"
        )
    return unflatten(flat), metadata


def is_weights_file(path: Path) -> bool:
    """Returns whether `path` is a safetensors file with our metadata.

    Raises:
        FusionProxyError: There is no such file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FusionProxyError(f"there is no weights file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def check_parameters(
    params: Mapping[str, Any], template: Mapping[str, Any], *, source: str
) -> None:
    """Refuses parameters that do not fit a network one to one.

    Args:
        params: What was read.
        template: The network's own tree; leaves need only a `shape`.
        source: What to call the parameters in the error.

    Raises:
        FusionProxyError: Names are missing or unknown, or shapes differ: all named.
    """
    given, wanted = flatten(params), flatten(template)
    problems = {
        "it lacks": sorted(wanted.keys() - given.keys()),
        "it has unknown": sorted(given.keys() - wanted.keys()),
        "shapes differ in": [
            f"{name} ({tuple(given[name].shape)} for {tuple(wanted[name].shape)})"
            for name in sorted(given.keys() & wanted.keys())
            if tuple(given[name].shape) != tuple(wanted[name].shape)
        ],
    }
    found = [
        f"{what} {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        for what, names in problems.items()
        if names
    ]
    if found:
        raise FusionProxyError(
            f"{source} does not fit this network: {'; '.join(found)}; use weights "
            "written for the same configuration"
        )
