"""Which visible and infrared files belong together, by their names."""

import re
from collections.abc import Iterable
from pathlib import Path

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.images import IMAGE_SUFFIXES

VISIBLE_WORDS = frozenset({"visible", "visual", "vis", "vi", "rgb"})
INFRARED_WORDS = frozenset({"infrared", "thermal", "inf", "ir", "lwir", "tir"})
_MAX_NAMED = 5


def list_images(folder: Path) -> list[Path]:
    """Returns the images directly in `folder`, sorted, without hidden files."""
    return sorted(path for path in folder.iterdir() if is_image(path))


def is_image(path: Path) -> bool:
    """Tells by its name whether a file is an image this package reads."""
    is_hidden = path.name.startswith(".")
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden and path.is_file()


def matched(
    visible: dict[str, Path], infrared: dict[str, Path]
) -> list[tuple[str, Path, Path]]:
    """Returns (visible key, visible, infrared) of every pair, sorted by key.

    Partners have the same key, which is the file name without suffix. Where that does
    not match everything up, words for the kind of camera are left out of the keys:
    `0001_rgb` and `0001_thermal` are partners then.

    Raises:
      FusionProxyError: images without partner, named.
    """
    if visible.keys() != infrared.keys():
        bare_visible = {without_words(key): key for key in visible}
        bare_infrared = {without_words(key): key for key in infrared}
        is_lossless = len(bare_visible) == len(visible) == len(bare_infrared)
        if is_lossless and bare_visible.keys() == bare_infrared.keys():
            partner = {bare_visible[k]: bare_infrared[k] for k in bare_visible}
            return [(k, visible[k], infrared[partner[k]]) for k in sorted(visible)]
        _raise_missing(visible, infrared)
    return [(key, visible[key], infrared[key]) for key in sorted(visible)]


def keyed(paths: Iterable[Path], *, folder: Path | None = None) -> dict[str, Path]:
    """Returns `paths` by file name without suffix, with the part below `folder`.

    Raises:
      FusionProxyError: two images differ in their suffix, or only in their folder.
    """
    keys: dict[str, Path] = {}
    for path in paths:
        below = path.relative_to(folder) if folder else Path(path.name)
        key = below.with_suffix("").as_posix()
        if key in keys:
            raise FusionProxyError(
                f"{keys[key]} and {path} have the same name without suffix; "
                "keep one of them"
            )
        keys[key] = path
    return keys


def some_names(names: Iterable[object]) -> str:
    """Returns the first few of `names` for a sentence, and how many more there are."""
    names = [str(name) for name in names]
    shown = ", ".join(names[:_MAX_NAMED])
    more = len(names) - _MAX_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def camera(stem: str) -> str | None:
    """Returns the kind of camera a file name speaks of, `visible` or `infrared`."""
    words = {word.lower() for word in _words(stem)}
    is_visible, is_infrared = words & VISIBLE_WORDS, words & INFRARED_WORDS
    if bool(is_visible) == bool(is_infrared):
        return None
    return "visible" if is_visible else "infrared"


def without_words(key: str) -> str:
    """Returns `key` without words for visible and infrared in its last part."""
    head, slash, stem = key.rpartition("/")
    words = _words(stem)
    kept = [w for w in words if w.lower() not in VISIBLE_WORDS | INFRARED_WORDS]
    return head + slash + "_".join(kept or words)


def _words(stem: str) -> list[str]:
    return [word for word in re.split(r"[_\-. ]+", stem) if word]


def _raise_missing(visible: dict[str, Path], infrared: dict[str, Path]) -> None:
    lonely_visible = [visible[key] for key in sorted(visible.keys() - infrared.keys())]
    lonely_infrared = [infrared[k] for k in sorted(infrared.keys() - visible.keys())]
    parts = []
    if lonely_visible:
        parts.append(f"no infrared partner for {some_names(lonely_visible)}")
    if lonely_infrared:
        parts.append(f"no visible partner for {some_names(lonely_infrared)}")
    raise FusionProxyError(
        f"{'; '.join(parts)}: partners have the same name in both folders"
    )
