"""How a checkpoint's tensors become our parameters: one to one or not at all.

The rules are a table, made from a network's configuration: source key -> (target,
transform), the target `/`-joined as in Flax, the transform a name in `layout`.
Every source key must have a rule or be listed as ignorable or as a second name of
another; every parameter must be set; every shape must fit. What does not is named, all
of it at once, before a parameter is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fusionproxy_jax.checkpoints.checkpoint_file import CheckpointFile
from fusionproxy_jax.checkpoints.layout import (
    TRANSFORMS,
    FloatName,
    cast,
    shape_after,
)
from fusionproxy_jax.checkpoints.stored_tensor import quoted
from fusionproxy_jax.checkpoints.weights import flatten
from fusionproxy_jax.errors import FusionProxyError

Table = Mapping[str, tuple[str, str]]
"""Rules: source key -> (target path, name of the transform)."""


class Step(NamedTuple):
    """One parameter: the key in the file, and what becomes of its tensor."""

    key: str
    target: str
    transform: str
    shape: tuple[int, ...]


def plan_conversion(
    source: CheckpointFile,
    table: Table,
    template: Mapping[str, Any],
    *,
    ignored: Sequence[str] = (),
    aliases: Mapping[str, str] = MappingProxyType({}),
    prefixes: Sequence[str] = ("module.",),
) -> tuple[Step, ...]:
    """Returns how to make every parameter of `template`, in the file's order.

    Args:
        source: The open file.
        table: Rules.
        template: The network's own tree; leaves need only a `shape`.
        ignored: Keys, or `fnmatch` patterns of keys, that need no rule.
        aliases: Second name -> first name of a tensor; both must hold equal values.
        prefixes: Taken off the file's keys, in this order, where they have them.

    Raises:
        FusionProxyError: The file does not fit one to one; all problems are named.
        ValueError: The table sets a parameter twice or names no transform.
    """
    wanted = {path: tuple(leaf.shape) for path, leaf in flatten(template).items()}
    targets = {target: name for name, (target, _) in table.items()}
    if len(targets) != len(table):
        raise ValueError("two rules have the same target")
    if unknown := {transform for _, transform in table.values()} - TRANSFORMS.keys():
        raise ValueError(f"no transform {unknown}; there are {list(TRANSFORMS)}")
    keys, doubled = _stripped(source, table, prefixes)
    steps, misfits = [], []
    for name, (target, transform) in table.items():
        if name not in keys or target not in wanted:
            continue
        given = source.shape(keys[name])
        got = shape_after(transform, given)
        if got != wanted[target]:
            misfits.append(f"{name} ({given} for {target} {wanted[target]})")
        elif not np.issubdtype(source.dtype(keys[name]), np.floating):
            misfits.append(f"{name} ({source.dtype(keys[name])} is no float type)")
        steps.append(Step(keys[name], target, transform, wanted[target]))
    _refuse(
        source,
        {
            "it lacks": [
                f"{name} (for {target})"
                for name, (target, _) in table.items()
                if name not in keys
            ],
            "it has unknown": [
                quoted(name)
                for name in keys
                if name not in table
                and name not in aliases
                and not any(fnmatchcase(name, pattern) for pattern in ignored)
            ],
            "it has twice, with and without a prefix,": doubled,
            "no rule sets": [path for path in wanted if path not in targets],
            "rules set unknown": [path for path in targets if path not in wanted],
            "shapes or types differ in": misfits,
            "second names differ from their originals in": _unequal(
                source, keys, aliases
            ),
        },
    )
    order = {key: place for place, key in enumerate(source.keys())}
    return tuple(sorted(steps, key=lambda step: order[step.key]))


def converted_tensors(
    source: CheckpointFile, steps: Sequence[Step], dtype: FloatName
) -> Iterator[np.ndarray]:
    """Yields the parameter of every step, so that one at a time is in memory.

    Raises:
        FusionProxyError: A value is too large for `dtype`, or the file is damaged.
    """
    for step in steps:
        # Not kept under a name here while the next one is read.
        yield _converted(source, step, dtype)


def _converted(source: CheckpointFile, step: Step, dtype: FloatName) -> np.ndarray:
    values = cast(TRANSFORMS[step.transform](source.read(step.key)), dtype)
    if values is None:
        raise FusionProxyError(
            f"{source.path} has values in {step.key} too large for {dtype}; ask for "
            "float32"
        )
    return values


def _stripped(
    source: CheckpointFile, table: Table, prefixes: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Returns the file's keys by their names without prefix, and names met twice."""
    keys: dict[str, str] = {}
    doubled = []
    for key in source.keys():
        name = key
        for prefix in prefixes:
            if name not in table:
                name = name.removeprefix(prefix)
        if name in keys:
            doubled.append(name)
        keys[name] = key
    return keys, doubled


def _unequal(
    source: CheckpointFile, keys: Mapping[str, str], aliases: Mapping[str, str]
) -> list[str]:
    """Returns the second names whose values differ from the first's."""
    differing = []
    for alias, original in aliases.items():
        if alias not in keys:
            continue
        if original not in keys or not _same(source, keys[alias], keys[original]):
            differing.append(f"{alias} (of {original})")
    return differing


def _same(source: CheckpointFile, one: str, other: str) -> bool:
    if (source.shape(one), source.dtype(one)) != (
        source.shape(other),
        source.dtype(other),
    ):
        return False
    return np.array_equal(source.read(one), source.read(other), equal_nan=True)


def _refuse(source: CheckpointFile, problems: Mapping[str, Sequence[str]]) -> None:
    """Raises one sentence with the first names and the number of every problem."""
    found = [
        f"{what} {', '.join(names[:4])}"
        + (f", ... ({len(names)} in all)" if len(names) > 4 else "")
        for what, names in problems.items()
        if names
    ]
    if found:
        raise FusionProxyError(
            f"{source.path} does not fit this network: {'; '.join(found)}; use the "
            "file that was released for this configuration"
        )
