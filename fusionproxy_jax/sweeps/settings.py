"""Settings of configurations as flat dictionaries, and which of them differ."""

from collections.abc import Mapping, Sequence
from typing import Any


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns dotted name -> value of nested dictionaries."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def varied_settings(configs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Returns the dotted names whose values are not the same in all of `configs`."""
    settings = [flat(config) for config in configs]
    names = dict.fromkeys(name for one in settings for name in one)
    return tuple(
        name
        for name in names
        if any(one.get(name) != settings[0].get(name) for one in settings)
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns a phrase for every setting that differs, by name."""
    one, other = flat(old), flat(new)
    return [
        f"{name} was {one.get(name)!r} and is now {other.get(name)!r}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]
