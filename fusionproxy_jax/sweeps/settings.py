"""Which settings differ between the members of a sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

from fusionproxy_jax.config.identity import flat_settings


def varied_settings(configs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Returns the dotted names whose values are not the same in all of `configs`."""
    settings = [flat_settings(config) for config in configs]
    names = dict.fromkeys(name for one in settings for name in one)
    return tuple(
        name
        for name in names
        if any(one.get(name) != settings[0].get(name) for one in settings)
    )
