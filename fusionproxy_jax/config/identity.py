"""Configurations as text: JSON, and a hash that tells two apart."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(config: object) -> str:
    """Returns a config dataclass as JSON text with sorted keys."""
    return json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True)


def config_hash(*configs: object) -> str:
    """Returns 16 hex digits that change when any field of `configs` changes."""
    text = "\n".join(to_json(config) for config in configs)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns dotted name -> value of nested dicts, such as a stored configuration."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    ignored: Collection[str] = (),
) -> list[str]:
    """Returns a phrase for every setting that differs, by its dotted name.

    Args:
        old: Nested dicts, as stored.
        new: The same of another configuration.
        ignored: Dotted names that may differ.
    """
    one, other = flat_settings(old), flat_settings(new)
    return [
        f"{name} was {one.get(name)!r} and is now {other.get(name)!r}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name) and name not in ignored
    ]


def from_json(kind: type[T], fields: dict[str, Any]) -> T:
    """Returns the flat config dataclass `kind` whose `asdict` was stored as JSON.

    Raises:
        TypeError: The fields are not those of `kind`.
    """
    # JSON has no tuples.
    return kind(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    )
