"""What `fusionproxy panel check` says of every backbone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.complexity import multiply_adds
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.panel.description import describe_backbone
from fusionproxy_jax.panel.foundation_backbone import backbone_without_weights
from fusionproxy_jax.panel.onnx_backbone import (
    COMPACT,
    find_compact,
    load_onnx_backbone,
)
from fusionproxy_jax.panel.registry import FOUNDATION_MODELS, expand, parse_entry
from fusionproxy_jax.panel.snapshots import check_weights, find_weights, weights_at

_COMPACT_LICENCE = "Apache-2.0"
_HEADER = (
    *("backbone", "weights", "licence", "parameters", "multiply-adds", "features"),
    *("fp16 MB", "where"),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A backbone in the table."""

    name: str
    licence: str
    where: str
    # What `panel fetch` calls it, unless the user brings it.
    fetched_as: str | None
    state: str = "present"
    # Why it cannot be used, beyond not being here.
    problem: str | None = None
    # Its parameters may be shapes only; None where even these are unknown.
    backbone: Backbone | None = None

    def cells(self) -> tuple[str, ...]:
        """Returns the line of the table."""
        numbers = _numbers(self.backbone) if self.backbone else ("", "", "", "")
        return (self.name, self.state, self.licence, *numbers, self.where)


def find_rows(names: tuple[str, ...]) -> Iterator[Row]:
    """Yields the row of every backbone that `names` name; see `registry.resolve`.

    Raises:
        FusionProxyError: A name is unknown.
    """
    compact = find_compact() or []
    entries = dict.fromkeys(
        entry
        for name in names
        for entry in expand([name] if compact or name != "compact" else [])
    )
    for entry in entries:
        name, path, is_onnx = parse_entry(entry)
        if not is_onnx:
            yield _port_row(name, path)
        elif entry in compact:
            yield _onnx_row(entry, licence=_COMPACT_LICENCE, fetched_as="compact")
        else:
            yield _onnx_row(entry, licence="", fetched_as=None)
    if "compact" in names and not compact:
        yield from _missing_detectors()


def _port_row(name: str, path: Path | None) -> Row:
    model = FOUNDATION_MODELS[name]
    found, state, problem = None, "present", None
    try:
        found = weights_at(path) if path else find_weights(model.repository)
        if found is None:
            state = "missing"
        else:
            check_weights(model, found)
    except FusionProxyError as error:
        state, problem = "unusable", str(error)
    return Row(
        name=name,
        licence=model.licence,
        where=str(found or path or model.repository),
        fetched_as=None if path else name,
        state=state,
        problem=problem,
        backbone=backbone_without_weights(model),
    )


def _missing_detectors() -> Iterator[Row]:
    for file, _ in COMPACT:
        yield Row(
            name=file,
            licence=_COMPACT_LICENCE,
            where="in FUSIONPROXY_MODELS",
            fetched_as="compact",
            state="missing",
        )


def _onnx_row(spec: str, *, licence: str, fetched_as: str | None) -> Row:
    backbone, state, problem = None, "present", None
    try:
        backbone = load_onnx_backbone(spec)
    except FusionProxyError as error:
        state, problem = "unusable", str(error)
    return Row(
        name=parse_entry(spec).name,
        licence=licence,
        where=spec,
        fetched_as=fetched_as,
        state=state,
        problem=problem,
        backbone=backbone,
    )


def _numbers(backbone: Backbone) -> tuple[str, ...]:
    """Returns parameters, multiply-adds, features and their size."""
    told = describe_backbone(backbone)
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    count = multiply_adds(backbone.apply, backbone.params, image)
    height, width = told.grid
    return (
        f"{told.parameters / 1e6:.2f} M",
        f"{count / 1e9:.2f} G",
        f"{height}x{width}x{told.channels}",
        f"{told.megabytes:.2f}",
    )


def table(rows: Sequence[Row]) -> str:
    """Returns the rows under a header, in columns as wide as their longest cell."""
    lines = [_HEADER, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
