"""Finding visible-infrared pairs in folders, as data sets are released.

A pair folder holds two subfolders, one named for visible and one for infrared images:
`visible/ infrared/`, MSRS `vi/ ir/`, M3FD `Vis/ Ir/`, TNO `visual/ thermal/`, RoadScene
`crop_LR_visible/ cropinfrared/`, LLVIP `visible/train/ infrared/train/`. A folder with
just two images named `VIS...` and `IR...` is a pair as well (TNO's scenes). Upper and
lower case are the same.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.partners import (
    INFRARED_WORDS,
    VISIBLE_WORDS,
    camera,
    is_image,
    keyed,
    list_images,
    matched,
    some_names,
    without_words,
)

_VISIBLE_FOLDERS = VISIBLE_WORDS | {
    "crop_lr_visible",
    "croplr_visible",
    "cropvisible",
    "crop_visible",
}
_INFRARED_FOLDERS = INFRARED_WORDS | {"cropinfrared", "crop_infrared"}
# Parts of a data set that are not clips: their images are independent of each other.
_SUBSETS = frozenset(
    {"train", "training", "val", "validation", "test", "testing"}
    | {"m3fd_fusion", "m3fd_detection"}
)


@dataclass(frozen=True)
class PairPaths:
    """One visible-infrared pair on disk."""

    # "roadscene/FLIR_00006": data set, folders below it, file stem.
    id: str
    visible: Path
    infrared: Path
    # What must not be divided between training and validation: a clip, else the id.
    group: str


def find_pairs(root: Path, *, name: str | None = None) -> list[PairPaths]:
    """Returns every pair under `root`, sorted by id.

    Files that are no images are ignored, and so are hidden ones. When several folders
    under `root` hold pairs, each is taken for a clip and is one group; otherwise, and
    in folders named train, test and the like, every pair is its own group.

    Args:
      root: a pair folder, or a folder with pair folders anywhere below.
      name: first part of the ids; the name of `root` by default.

    Raises:
      FusionProxyError: no such folder, no pairs, an image without partner (named).
    """
    root = Path(root)
    if not root.is_dir():
        raise FusionProxyError(f"there is no folder {root}")
    name = name or root.resolve().name
    found = []
    for folder in _folders(root):
        for key, visible, infrared in _pairs_of(folder):
            parts = (*folder.relative_to(root).parts, *key.split("/"))
            found.append((parts, visible, infrared))
    if not found:
        raise FusionProxyError(
            f"no pairs under {root}: a pair folder holds two subfolders, such as "
            "visible/ and infrared/, vi/ and ir/ or Vis/ and Ir/"
        )
    several = len({parts[:-1] for parts, _, _ in found}) > 1
    pairs = []
    for parts, visible, infrared in sorted(found):
        clip = [part for part in parts[:-1] if part.lower() not in _SUBSETS]
        group = clip if several and clip else parts
        pairs.append(
            PairPaths(
                id="/".join([name, *parts]),
                visible=visible,
                infrared=infrared,
                group="/".join([name, *group]),
            )
        )
    return pairs


def _folders(root: Path) -> Iterator[Path]:
    """Walks `root` without entering the image folders of a pair folder."""
    for folder, names, _ in os.walk(root):
        words = {name.lower() for name in names}
        is_pair = bool(words & _VISIBLE_FOLDERS and words & _INFRARED_FOLDERS)
        kept = [
            name
            for name in sorted(names)
            if not name.startswith(".")
            and not (is_pair and name.lower() in _VISIBLE_FOLDERS | _INFRARED_FOLDERS)
        ]
        names[:] = kept
        yield Path(folder)


def _pairs_of(folder: Path) -> list[tuple[str, Path, Path]]:
    """Returns the pairs of one folder: none unless it is laid out as a pair folder."""
    visible = _subfolders(folder, _VISIBLE_FOLDERS)
    infrared = _subfolders(folder, _INFRARED_FOLDERS)
    if visible and infrared:
        for kind in (visible, infrared):
            if len(kind) > 1:
                raise FusionProxyError(
                    f"{folder} has several folders of one kind, "
                    f"{some_names(path.name for path in kind)}; keep one of them"
                )
        return matched(_images_below(visible[0]), _images_below(infrared[0]))
    images = list_images(folder)
    if len(images) == 2:
        scene = {camera(path.stem): path for path in images}
        if scene.keys() == {"visible", "infrared"}:
            key = without_words(scene["visible"].stem)
            return [(key, scene["visible"], scene["infrared"])]
    return []


def _subfolders(folder: Path, names: frozenset[str]) -> list[Path]:
    found = [p for p in folder.iterdir() if p.name.lower() in names and p.is_dir()]
    # RoadScene ships full frames beside the aligned crops; only the crops are pairs.
    crops = [path for path in found if path.name.lower().startswith("crop")]
    return sorted(crops or found)


def _images_below(folder: Path) -> dict[str, Path]:
    paths = [Path(top, name) for top, _, names in os.walk(folder) for name in names]
    return keyed(sorted(path for path in paths if is_image(path)), folder=folder)
