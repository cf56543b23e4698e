"""Reads the configuration that an experiment file gives."""

import dataclasses
import difflib
import inspect
import re
import runpy
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fusionproxy_jax.config as config_classes
from fusionproxy_jax.config.checks import check_types
from fusionproxy_jax.errors import FusionProxyError

T = TypeVar("T")

# What Python says of a keyword that a class, or a copy of its instance, has not.
_UNKNOWN = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def load_experiment(text: str, kind: type[T]) -> T:
    """Returns `get_config()` of an experiment file; `FILE.py:NAME` passes the name.

    Args:
        text: Path of the file, with or without a name.
        kind: The dataclass that is wanted of it.

    Raises:
        FusionProxyError: There is no such file or function, it takes names where none
            is given or none where one is, it fails, or what it returns is of another
            kind or has values of other types than its fields.
    """
    path, name = Path(text), None
    if not path.is_file() and ":" in text:
        file, _, name = text.rpartition(":")
        path = Path(file)
    if not path.is_file():
        raise FusionProxyError(f"no experiment file at {path}; see experiments/")
    names = _run(path, lambda: runpy.run_path(str(path)))
    if "get_config" not in names:
        raise FusionProxyError(f"{path} defines no get_config() -> {kind.__name__}")
    get_config, given = names["get_config"], () if name is None else (name,)
    try:
        inspect.signature(get_config).bind(*given)
    except TypeError as error:
        raise FusionProxyError(
            f"{path} has one configuration only; leave :{name} away"
            if given
            else f"{path} has several configurations; name one, as {path}:NAME"
        ) from error
    config = _run(path, lambda: get_config(*given))
    if not isinstance(config, kind):
        raise FusionProxyError(
            f"get_config() of {path} returns a {type(config).__name__}; this command "
            f"needs a {kind.__name__}"
        )
    check_types(config)
    return config


def suggestion(name: str, known: Sequence[str]) -> str:
    """Returns what of `known` may be meant by `name`, as the end of a sentence."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


def _run(path: Path, call: Callable[[], Any]) -> Any:
    """Returns what `call` does; what it raises becomes a sentence with its line."""
    try:
        return call()
    except FusionProxyError:
        raise
    # Whatever somebody else's code may raise.
    except Exception as error:
        where = str(path)
        if isinstance(error, SyntaxError):
            where = f"{path}, line {error.lineno}"
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == str(path):
                where = f"{path}, line {frame.lineno}"
        raise FusionProxyError(f"{where}: {_what_failed(error)}") from error


def _what_failed(error: Exception) -> str:
    unknown = _UNKNOWN.search(str(error))
    if unknown is not None and unknown[1] in config_classes.__all__:
        kind, name = getattr(config_classes, unknown[1]), unknown[2]
        fields = [field.name for field in dataclasses.fields(kind)]
        return f"{unknown[1]} has no setting {name!r}; {suggestion(name, fields)}"
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"
