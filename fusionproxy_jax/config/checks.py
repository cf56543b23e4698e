"""How a configuration refuses a value: out of range, or of another type."""

import dataclasses
import functools
import math
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fusionproxy_jax.errors import FusionProxyError

# Metadata of a field of floats that takes infinity.
INFINITE = MappingProxyType({"infinite": True})
# Type -> what one value of it is called, and several.
_WORDS = MappingProxyType(
    {
        int: ("a whole number", "whole numbers"),
        float: ("a finite number", "finite numbers"),
        bool: ("True or False", "True or False"),
        str: ("a text", "texts"),
        Path: ("a path", "paths"),
        NoneType: ("None", "None"),
    }
)


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Refuses a setting in one sentence: its name, its value, what it must be."""
    if not condition:
        raise FusionProxyError(f"{name} is {value!r}; it must be {allowed}")


def check_types(config: object, prefix: str = "") -> None:
    """Refuses values that the type hints of their fields do not allow, at any depth.

    A whole number is a float too, a boolean is no number, a list is a tuple. NaN is
    refused everywhere, infinity in fields without the metadata `INFINITE`.

    Args:
        config: A dataclass of numbers, texts, tuples, literals and dataclasses.
        prefix: Comes before the names of its fields, such as "loss.".

    Raises:
        FusionProxyError: Names the first such field, its value and what is allowed.
    """
    for name, kind, infinite in _fields(type(config)):
        value = getattr(config, name)
        require(
            _is(value, kind, infinite),
            prefix + name,
            value,
            _words(kind, infinite=infinite),
        )
        if dataclasses.is_dataclass(value):
            check_types(value, f"{prefix}{name}.")


def settle_types(config: object, prefix: str = "") -> None:
    """Checks as `check_types`, and makes tuples of lists; for `__post_init__`."""
    check_types(config, prefix)
    for name, *_ in _fields(type(config)):
        value = getattr(config, name)
        if isinstance(value, list):
            # The instance is frozen, but nobody has seen it yet.
            object.__setattr__(config, name, tuple(value))


@functools.cache
def _fields(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    """Returns (name, type, whether infinity is allowed) of every field."""
    hints = get_type_hints(kind)
    return tuple(
        (field.name, hints[field.name], "infinite" in field.metadata)
        for field in dataclasses.fields(kind)
    )


def _is(value: object, kind: Any, infinite: bool) -> bool:
    """Returns whether `value` is allowed where the hint is `kind`."""
    origin, options = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_is(value, option, infinite) for option in options)
    if origin is Literal:
        # By type too: True equals 1.
        return any(
            isinstance(value, type(option))
            and isinstance(value, bool) == isinstance(option, bool)
            and value == option
            for option in options
        )
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        if options[-1] is Ellipsis:
            options = (options[0],) * len(value)
        return len(options) == len(value) and all(
            _is(one, option, infinite)
            for one, option in zip(value, options, strict=True)
        )
    if isinstance(value, bool):
        return kind is bool
    if kind is float and isinstance(value, float):
        return math.isfinite(value) or (infinite and not math.isnan(value))
    return isinstance(value, int if kind is float else kind)


def _words(kind: Any, *, infinite: bool = False, several: bool = False) -> str:
    """Returns what `kind` allows, to follow "it must be"."""
    origin, options = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        alternatives = [_words(option, infinite=infinite) for option in options]
        return " or ".join(alternatives)
    if origin is Literal:
        return f"one of {options}" if len(options) > 1 else repr(options[0])
    if origin is tuple:
        if options[-1] is Ellipsis:
            return f"a tuple of {_words(options[0], infinite=infinite, several=True)}"
        words = (_words(option, infinite=infinite) for option in options)
        return f"a tuple of {', '.join(words)}"
    if kind is float and infinite:
        return "a number or infinity"
    if kind in _WORDS:
        return _WORDS[kind][several]
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    return f"{article} {kind.__name__}"
