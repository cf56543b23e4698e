"""Changing fields of a nested configuration by text: `loss.epsilon=0.01`."""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.typed_text import describe_kind, typed_value

T = TypeVar("T")


def override(config: T, assignments: Sequence[str]) -> T:
    """Returns `config` with all `KEY=VALUE` set at once, so that their order is free.

    A key is a dotted name (`optimizer.learning_rate`; dashes serve as underscores). The
    field's type decides how a value is read: `none` where a field may be None, `inf`
    for a float, commas between the values of a tuple, nothing for an empty one.

    Args:
        config: A dataclass of fields and further dataclasses.
        assignments: Texts `KEY=VALUE`.

    Raises:
        FusionProxyError: A text without `=`, an unknown key, a key that is given twice,
            a value of another type, or one that the configuration refuses.
    """
    changes: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise FusionProxyError(
                f"--set {text!r} is no KEY=VALUE; give one such as loss.epsilon=0.01"
            )
        *groups, name = key.replace("-", "_").split(".")
        part, inner = config, changes
        for group in groups:
            part = _field(part, group, key)
            inner = inner.setdefault(group, {})
        old = _field(part, name, key)
        if dataclasses.is_dataclass(old):
            raise FusionProxyError(
                f"--set {key} is a group of settings; set one of "
                f"{', '.join(f'{key}.{found}' for found in _names(old))}"
            )
        if name in inner:
            raise FusionProxyError(f"--set gives {key} twice; leave one of them away")
        inner[name] = _parsed(get_type_hints(type(part))[name], value, key)
    return _replaced(config, changes)


def _field(config: Any, name: str, key: str) -> Any:
    """Returns a field; an unknown one is refused with the names nearest to it."""
    names = _names(config) if dataclasses.is_dataclass(config) else []
    if name in names:
        return getattr(config, name)
    if not names:
        raise FusionProxyError(
            f"--set {key} is no setting: {key.rpartition('.')[0]} has no parts"
        )
    near = difflib.get_close_matches(name, names, n=3) or names
    raise FusionProxyError(
        f"--set {key} is no setting; instead of {name} there is {', '.join(near)}"
    )


def _names(config: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(config)]


def _parsed(kind: Any, text: str, key: str) -> Any:
    try:
        return typed_value(kind, text)
    except ValueError:
        raise FusionProxyError(
            f"--set {key}={text} does not fit; {key} is {describe_kind(kind)}"
        ) from None


def _replaced(config: T, changes: dict[str, Any]) -> T:
    values = {
        name: _replaced(getattr(config, name), value)
        if isinstance(value, dict)
        else value
        for name, value in changes.items()
    }
    return dataclasses.replace(config, **values)
