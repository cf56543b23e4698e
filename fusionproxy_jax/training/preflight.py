"""What can be known to go wrong before anything is compiled."""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

from fusionproxy_jax.config import (
    Config,
    DataConfig,
    PanelConfig,
    TeacherConfig,
    to_json,
)
from fusionproxy_jax.config.checks import check_types
from fusionproxy_jax.config.identity import flat_settings
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pairs import load_pairs
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.teachers.cache import TeacherCache

PyTree = Any

# A contact sheet of photographs, and one of routing maps, as PNG; TensorBoard keeps
# them a second time.
_DRAWING_BYTES = 4_000_000
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def check_workdir(workdir: Path, cache: TeacherCache) -> None:
    """Refuses to put a run into the folder of its cache.

    Raises:
        FusionProxyError: It is that folder.
    """
    if workdir.absolute() == cache.directory.absolute():
        raise FusionProxyError(
            f"--workdir is {workdir}, the folder of the teacher cache; give the run a "
            "folder of its own"
        )


def check_cache(config: Config, cache: TeacherCache) -> None:
    """Refuses a run that contradicts the cache it is to be distilled from.

    Raises:
        FusionProxyError: As `check_types`, `check_teacher` and `check_held_out`.
    """
    check_types(config)
    taught = json.loads(cache.config_json)
    check_teacher(config.teacher, taught, directory=cache.directory)
    check_target(config.panel.target, cache)
    ids = [image.id for image in cache.manifest.images]
    check_held_out(config.data, ids, directory=cache.directory)


def check_target(wanted: str, cache: TeacherCache) -> None:
    """Refuses a target of Eq. 9 that the cache's features are not made with.

    Raises:
        FusionProxyError: They are not, and `wanted` is not the default.
    """
    for entry in cache.panel:
        if wanted not in (PanelConfig().target, entry.target):
            raise FusionProxyError(
                f"panel.target is {wanted!r}, but {entry.name} in the teacher cache in "
                f"{cache.directory} has {entry.target!r}; leave the setting away, or "
                "make a cache with it by `fusionproxy teach` in another --cache folder"
            )


def check_crop(crop_px: int, cache: TeacherCache) -> None:
    """Refuses crops that are larger than the cache's tiles.

    Raises:
        FusionProxyError: They are.
    """
    tile_px = cache[0]["visible"].shape[0]
    if crop_px > tile_px:
        raise FusionProxyError(
            f"data.crop_px is {crop_px}; tiles of the teacher cache in "
            f"{cache.directory} have {tile_px} px, and crops cannot be larger"
        )


def check_teacher(
    wanted: TeacherConfig, taught: Mapping[str, Any], *, directory: Path
) -> None:
    """Refuses teacher settings of a run that are not those of its cache.

    A setting left at its default is no wish. Paths of weights are not compared: a
    cache knows networks by their weights, not by their files.

    Args:
        wanted: Of the run.
        taught: That of the cache, as nested dicts of JSON values; what it lacks was
            added later and has its default.
        directory: The cache's.

    Raises:
        FusionProxyError: Names the first such setting with both values.
    """
    asked = flat_settings(json.loads(to_json(wanted)))
    usual = flat_settings(json.loads(to_json(TeacherConfig())))
    found = usual | flat_settings(taught)
    for name, value in asked.items():
        if name.endswith(".weights") or value in (usual[name], found[name]):
            continue
        raise FusionProxyError(
            f"teacher.{name} is {value!r}, but the teacher cache in {directory} was "
            f"made with {found[name]!r}; leave the setting away, or make a cache with "
            "it by `fusionproxy teach` in another --cache folder"
        )


def check_held_out(
    data: DataConfig, taught_ids: Collection[str], *, directory: Path
) -> None:
    """Refuses to validate on pairs that the cache has for training.

    Args:
        data: Of the run; without sources or a share of validation there is nothing to
            refuse.
        taught_ids: Names of the cache's pairs.
        directory: The cache's.

    Raises:
        FusionProxyError: Some pairs are both, or as `load_pairs`.
    """
    if not data.sources or not data.validation_fraction or not taught_ids:
        return
    names = load_pairs(data.sources).ids_and_groups
    _, validation = split_pairs(names, data.validation_fraction)
    taught = set(taught_ids)
    both = [names[index][0] for index in validation if names[index][0] in taught]
    if both:
        more = f" and {len(both) - 1} more" if len(both) > 1 else ""
        raise FusionProxyError(
            f"data.validation_fraction {data.validation_fraction} of these "
            f"data.sources holds out {both[0]}{more}, which the teacher cache in "
            f"{directory} has for training; give the sources and the fraction that it "
            "was made with, or a fraction of 0"
        )


def tree_bytes(tree: PyTree) -> int:
    """Returns the size of all arrays of a tree; shapes and types will do."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_disk_space(
    workdir: Path, *, state_bytes: int, keep_checkpoints: int, num_drawings: int
) -> None:
    """Refuses a run that its disk has no room for.

    Args:
        workdir: Folder of the run; it need not be there.
        state_bytes: Size of the training state: parameters, averages and moments.
        keep_checkpoints: A new one is written before the oldest of so many goes.
        num_drawings: How often pictures are drawn.

    Raises:
        FusionProxyError: With the room that is needed and the room there is.
    """
    workdir = workdir.absolute()
    # What an interrupted run left there is in the way of nothing new.
    kept = sum(path.name.isdecimal() for path in (workdir / "checkpoints").glob("*"))
    num_checkpoints = max(keep_checkpoints + 1 - kept, 1)
    needed = num_checkpoints * state_bytes + num_drawings * _DRAWING_BYTES
    disk = next(path for path in (workdir, *workdir.parents) if path.exists())
    free = shutil.disk_usage(disk).free
    if free < needed:
        raise FusionProxyError(
            f"the disk of {workdir} has {_readable(free)} free, but this run needs "
            f"about {_readable(needed)} (for checkpoints {num_checkpoints} times "
            f"{_readable(state_bytes)}, and pictures of {num_drawings} steps); free "
            "some, lower keep_checkpoints, raise picture_every, or give a --workdir on "
            "another disk"
        )


def _readable(num_bytes: float) -> str:
    """Returns a size of three digits and its decimal unit."""
    for unit in _UNITS[:-1]:
        if num_bytes < 999.5:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} {_UNITS[-1]}"
