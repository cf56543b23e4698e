"""The backbones a panel may name: those known here, and files that users bring."""

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.panel.foundation_backbone import load_foundation_backbone
from fusionproxy_jax.panel.foundation_model import FoundationModel
from fusionproxy_jax.panel.onnx_backbone import (
    COMPACT,
    find_compact,
    load_onnx_backbone,
)
from fusionproxy_jax.panel.onnx_spec import parse_spec
from fusionproxy_jax.panel.snapshots import find_weights, weights_at

PAPER = ("vgg16", "dinov2", "clip", "sam")
"""The four of Sec. 3.4."""

# Name -> (module, constant); all are named by their constants as well.
_PORTS = MappingProxyType(
    {
        "vgg16": ("vgg16", "VGG16"),
        "dinov2": ("dinov2", "DINOV2_BASE"),
        "dinov2_small": ("dinov2", "DINOV2_SMALL"),
        "clip": ("clip", "CLIP_LARGE"),
        "clip_base": ("clip", "CLIP_BASE"),
        "sam": ("sam", "SAM_BASE"),
    }
)


class _Ports(Mapping[str, FoundationModel]):
    """The ports by name, each module imported when a port of it is asked for."""

    def __getitem__(self, name: str) -> FoundationModel:
        module, constant = _PORTS[name]
        return getattr(
            importlib.import_module(f"fusionproxy_jax.panel.{module}"), constant
        )

    def __iter__(self) -> Iterator[str]:
        return iter(_PORTS)

    def __len__(self) -> int:
        return len(_PORTS)


FOUNDATION_MODELS: Mapping[str, FoundationModel] = _Ports()
"""Every port by its name."""


class Entry(NamedTuple):
    """One entry of `panel.backbones`, taken apart."""

    name: str
    """Of the backbone."""
    path: Path | None
    """Of its weights where the user gave it; always of an ONNX network."""
    is_onnx: bool


def resolve(backbones: Sequence[str]) -> tuple[str, ...]:
    """Returns the backbones one by one, each with its weights on this machine.

    Args:
        backbones: Names of `FOUNDATION_MODELS`, NAME=PATH for weights elsewhere than
            in the Hugging Face cache, onnx:FILE#TENSOR, and the panels `paper`,
            `compact` and `auto`: the first of these two that is complete, or none.

    Raises:
        FusionProxyError: A backbone is unknown, doubled, or its weights are missing.
    """
    entries = expand(backbones)
    missing = []
    for name, path, is_onnx in map(parse_entry, entries):
        if is_onnx:
            if not path.is_file():
                raise FusionProxyError(f"there is no ONNX file {path} for {name}")
        elif path is not None:
            weights_at(path)
        elif not _has_weights(name):
            missing.append(name)
    if missing:
        raise FusionProxyError(_missing(missing))
    return entries


def load_backbones(
    backbones: Sequence[str], *, dtype: str = "float32"
) -> tuple[Backbone, ...]:
    """Returns the backbones, loaded; see `resolve`, which is done first.

    Args:
        backbones: See `resolve`.
        dtype: What they compute in, "float32" or "bfloat16".

    Raises:
        FusionProxyError: See `resolve`; or weights do not fit or cannot be read.
    """
    return tuple(_load(entry, dtype) for entry in resolve(backbones))


def locate(name: str) -> str:
    """Returns the entry of the backbone that a teacher cache holds under a name.

    Raises:
        FusionProxyError: It is a network that the user brought, or a detector of
            `compact` that is not here.
    """
    if name in FOUNDATION_MODELS:
        return name
    if name in {parse_entry(f"onnx:{file}#{rest}").name for file, rest in COMPACT}:
        return {parse_entry(entry).name: entry for entry in _members("compact")}[name]
    raise FusionProxyError(
        f"{name} is no backbone known here; name its file in panel.backbones, as "
        "onnx:FILE#TENSOR"
    )


def expand(backbones: Sequence[str]) -> tuple[str, ...]:
    """Returns `backbones` with panels replaced by what they name; see `resolve`.

    Weights may be missing.

    Raises:
        FusionProxyError: A backbone is unknown or doubled, or `compact` is not here.
    """
    entries = tuple(each for name in backbones for each in _members(name))
    counts = Counter(parse_entry(entry).name for entry in entries)
    doubled = [name for name, times in counts.items() if times > 1]
    if doubled:
        raise FusionProxyError(
            f"the panel has {', '.join(doubled)} twice; name every backbone once"
        )
    return entries


def parse_entry(entry: str) -> Entry:
    """Takes NAME, NAME=PATH or onnx:FILE#TENSOR apart.

    Raises:
        FusionProxyError: There is no port of that name, or the path is empty.
    """
    if entry.startswith("onnx:"):
        spec = parse_spec(entry)
        return Entry(spec.name, spec.path, is_onnx=True)
    name, given, path = entry.partition("=")
    if name not in FOUNDATION_MODELS or (given and not path):
        raise FusionProxyError(
            f"there is no backbone {entry!r}; give {', '.join(FOUNDATION_MODELS)} (or "
            "NAME=PATH of its weights), onnx:FILE#TENSOR, or a panel: paper, compact, "
            "auto"
        )
    return Entry(name, Path(path).expanduser() if path else None, is_onnx=False)


def _members(name: str) -> tuple[str, ...]:
    """Returns the entries of a panel; of anything else, itself."""
    if name == "paper":
        return PAPER
    if name == "auto":
        complete = all(map(_has_weights, PAPER))
        return PAPER if complete else tuple(find_compact() or ())
    if name != "compact":
        return (name,)
    found = find_compact()
    if found is None:
        files = " and ".join(file for file, _ in COMPACT)
        raise FusionProxyError(
            f"the panel compact needs {files} in the folder that FUSIONPROXY_MODELS "
            "names; `fusionproxy panel fetch compact` says where they come from"
        )
    return tuple(found)


def _has_weights(name: str) -> bool:
    return find_weights(FOUNDATION_MODELS[name].repository) is not None


def _load(entry: str, dtype: str) -> Backbone:
    name, path, is_onnx = parse_entry(entry)
    if is_onnx:
        return load_onnx_backbone(entry, dtype=dtype)
    model = FOUNDATION_MODELS[name]
    weights = weights_at(path) if path else find_weights(model.repository)
    if weights is None:
        raise FusionProxyError(_missing([name]))
    return load_foundation_backbone(model, weights, dtype=dtype)


def _missing(names: Sequence[str]) -> str:
    here = [name for name in FOUNDATION_MODELS if _has_weights(name)]
    return (
        f"the weights of {', '.join(names)} are not on this machine (here: "
        f"{', '.join(here) or 'none'}); fetch them with `fusionproxy panel fetch "
        f"{' '.join(names)}`, or give a file as {names[0]}=PATH"
    )
