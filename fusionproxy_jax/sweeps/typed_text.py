"""Text to a value of a field's type, as configurations annotate them."""

import math
import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

_BOOLEANS = {"true": True, "false": False}


def typed_value(kind: Any, text: str) -> Any:
    """Returns `text` as a `kind`: `int`, `float`, `str`, `bool`, choices, tuples, None.

    Raises:
        ValueError: It is none; `describe_kind` says what would be one.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _of_union(arguments, text)
    if origin is Literal:
        return _choice(arguments, text)
    if origin is tuple:
        parts = text.split(",") if text else []
        return tuple(typed_value(arguments[0], part.strip()) for part in parts)
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(text)
        return _BOOLEANS[text.lower()]
    value = kind(text)
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(text)
    return value


def describe_kind(kind: Any) -> str:
    """Returns what `typed_value` takes for a `kind`, in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        words = [describe_kind(each) for each in arguments if each is not type(None)]
        return " or ".join([*words, *["none"] * (type(None) in arguments)])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"values with commas between them, each {describe_kind(arguments[0])}"
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(kind, "text")


def _of_union(kinds: Sequence[Any], text: str) -> Any:
    if type(None) in kinds and text.lower() == "none":
        return None
    for kind in kinds:
        try:
            return typed_value(kind, text)
        except (ValueError, TypeError):
            continue
    raise ValueError(text)


def _choice(choices: Sequence[Any], text: str) -> Any:
    for choice in choices:
        if str(choice) == text:
            return choice
    raise ValueError(text)
