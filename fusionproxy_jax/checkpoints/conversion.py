"""Other programs' checkpoints as our parameters, in memory or kept on disk.

A converted checkpoint is kept as safetensors, so that it is converted once. The kept
file is bound to the content of its source, to the rules and to the version of the
converter; whatever does not fit, is damaged or half written is converted anew.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fusionproxy_jax.checkpoints.checkpoint_file import CheckpointFile, open_checkpoint
from fusionproxy_jax.checkpoints.conversion_plan import (
    Table,
    converted_tensors,
    plan_conversion,
)
from fusionproxy_jax.checkpoints.layout import FloatName, float_dtype
from fusionproxy_jax.checkpoints.safetensors_writer import TensorSpec, write_safetensors
from fusionproxy_jax.checkpoints.weights import (
    METADATA_KEY,
    Parameters,
    flatten,
    load_weights,
    unflatten,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path

# Raised when a transform changes its meaning.
CONVERTER_VERSION = 1


def convert(
    source: CheckpointFile,
    table: Table,
    template: Mapping[str, Any],
    *,
    ignored: Sequence[str] = (),
    aliases: Mapping[str, str] = MappingProxyType({}),
    prefixes: Sequence[str] = ("module.",),
    dtype: FloatName = "float32",
) -> Parameters:
    """Returns the parameters of `template`, read one by one from `source`.

    For arguments and errors see `plan_conversion` and `converted_tensors`.
    """
    steps = plan_conversion(
        source, table, template, ignored=ignored, aliases=aliases, prefixes=prefixes
    )
    tensors = converted_tensors(source, steps, dtype)
    return unflatten({step.target: t for step, t in zip(steps, tensors, strict=True)})


def convert_cached(
    path: str | Path,
    table: Table,
    template: Mapping[str, Any],
    *,
    cache_dir: str | Path | None = None,
    ignored: Sequence[str] = (),
    aliases: Mapping[str, str] = MappingProxyType({}),
    prefixes: Sequence[str] = ("module.",),
    dtype: FloatName = "float32",
) -> Parameters:
    """Returns the parameters of `template` from a checkpoint, converted once.

    The result is written as `<name>-<16 hex digits of the source's SHA-256>`, with
    `-<dtype>` unless float32, `.safetensors`: in `cache_dir`; without it beside the
    source, or in the user's cache folder if that cannot be written. Converting and
    writing hold one tensor at a time in memory.

    Args:
        path: A torch or safetensors file.
        table: Rules; for these and the options see `plan_conversion`.
        template: The network's own tree; leaves need only a `shape`.
        cache_dir: Folder of the converted file; made if missing.
        ignored: Keys, or patterns of keys, that need no rule.
        aliases: Second name -> first name of a tensor.
        prefixes: Taken off the file's keys.
        dtype: Type of the parameters.

    Raises:
        FusionProxyError: The file is refused, does not fit the network, or the
            converted one cannot be written.
    """
    with open_checkpoint(path) as source:
        rules = [dict(table), list(ignored), dict(aliases), list(prefixes)]
        shapes = {name: leaf.shape for name, leaf in flatten(template).items()}
        identity = {
            "source_sha256": _sha256(source.path),
            "rules_sha256": _digest([rules, shapes]),
            "converter_version": CONVERTER_VERSION,
            "dtype": dtype,
        }
        name = _cached_name(source.path, identity)
        folders = _folders(source.path, cache_dir)
        for folder in folders:
            params = _load(folder / name, identity)
            if params is not None:
                return params
        steps = plan_conversion(
            source, table, template, ignored=ignored, aliases=aliases, prefixes=prefixes
        )
        cached = _writable(folders) / name
        to = float_dtype(dtype)
        with atomic_path(cached) as temporary:
            write_safetensors(
                temporary,
                [TensorSpec(step.target, to, step.shape) for step in steps],
                converted_tensors(source, steps, dtype),
                {METADATA_KEY: json.dumps(identity, sort_keys=True)},
            )
    return load_weights(cached)[0]


def _sha256(path: Path) -> str:
    """Returns the digest of a file, read in pieces."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FusionProxyError(
            f"could not read {path}: {error.strerror or error}"
        ) from error


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _cached_name(path: Path, identity: Mapping[str, Any]) -> str:
    ending = "" if identity["dtype"] == "float32" else f"-{identity['dtype']}"
    return f"{path.stem}-{identity['source_sha256'][:16]}{ending}.safetensors"


def _folders(path: Path, cache_dir: str | Path | None) -> list[Path]:
    """Folders the converted file may be in, the preferred one first."""
    if cache_dir is not None:
        return [Path(cache_dir)]
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The standard says to ignore a relative one.
    base = base if base.is_absolute() else Path.home() / ".cache"
    return [path.parent, base / "fusionproxy"]


def _writable(folders: list[Path]) -> Path:
    """Returns the first folder that can be written, or the last, made if missing."""
    for folder in folders[:-1]:
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    try:
        folders[-1].mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FusionProxyError(
            f"could not make the folder {folders[-1]} for converted weights: "
            f"{error.strerror or error}; name one that can be written"
        ) from error
    return folders[-1]


def _load(path: Path, identity: Mapping[str, Any]) -> Parameters | None:
    """Returns what an earlier conversion wrote; None if it cannot be used."""
    try:
        params, metadata = load_weights(path)
    except FusionProxyError:
        return None
    return params if metadata == identity else None
