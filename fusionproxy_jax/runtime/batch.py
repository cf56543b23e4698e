"""Fusing files: which pair gives which file, settled before the first one is read.

`plan` finds everything that can be wrong with names and places, so that nothing is
written when it fails. `fuse_jobs` then goes through the pairs one by one.
"""

import glob
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.images import (
    IMAGE_SUFFIXES,
    check_output_format,
    read_infrared,
    read_visible,
    write_image,
)
from fusionproxy_jax.runtime.partners import (
    is_image,
    keyed,
    list_images,
    matched,
    some_names,
)


@dataclass(frozen=True)
class FusionJob:
    """One pair and where its fused image goes."""

    visible: Path
    infrared: Path
    out: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `error` is a sentence, None when the file is written."""

    job: FusionJob
    error: str | None = None
    width_px: int = 0
    height_px: int = 0
    # The fuse call alone; reading and writing come on top.
    fuse_ms: float = 0.0


def plan(
    visible: Sequence[str],
    infrared: Sequence[str],
    out: str | Path,
    *,
    overwrite: bool = False,
) -> list[FusionJob]:
    """Returns one job per pair, after every check that needs no image data.

    Args:
      visible: files, folders or quoted glob patterns.
      infrared: the same for the infrared images. Two single files are a pair whatever
        their names; otherwise partners have the same name (see `partners.matched`).
      out: a file when it ends in an image suffix, else a folder, in which every result
        is named after its visible image and is a PNG file.
      overwrite: replace results that exist; otherwise they are an error. An input is
        never overwritten.

    Raises:
      FusionProxyError: nothing found, images without partner, several results in one
        place, a result that exists or would replace an input, or no way to write there.
    """
    visible_paths, infrared_paths = _listed(visible), _listed(infrared)
    out = Path(out)
    is_file = out.suffix.lower() in IMAGE_SUFFIXES and not out.is_dir()
    jobs = [
        FusionJob(
            visible=visible_path,
            infrared=infrared_path,
            out=out if is_file else out / f"{visible_path.stem}.png",
        )
        for visible_path, infrared_path in _paired(visible_paths, infrared_paths)
    ]
    if is_file and len(jobs) > 1:
        raise FusionProxyError(
            f"{len(jobs)} pairs cannot go into the one file {out}; give a folder"
        )
    _check_inputs_survive(jobs)
    _check_writable(out.parent if is_file else out)
    existing = [job.out for job in jobs if job.out.exists()]
    folders = [path for path in existing if path.is_dir()]
    if folders:
        raise FusionProxyError(f"{some_names(folders)} is a folder; give another --out")
    if existing and not overwrite:
        raise FusionProxyError(
            f"{len(existing)} of {len(jobs)} results exist already "
            f"({some_names(existing)}); add --overwrite or give another --out"
        )
    return jobs


def fuse_jobs(
    jobs: Sequence[FusionJob],
    fuse: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Iterator[Outcome]:
    """Yields the outcome of every job in turn; a bad pair does not stop the others.

    Raises:
      FusionProxyError: a result cannot be written, which the next ones could not be
        either.
    """
    for number, job in enumerate(jobs):
        try:
            visible = read_visible(job.visible)
            check_output_format(job.out, visible.dtype)
            infrared = read_infrared(job.infrared)
            start = time.perf_counter()
            fused = fuse(visible, infrared)
            fuse_ms = 1e3 * (time.perf_counter() - start)
        except FusionProxyError as error:
            yield Outcome(job, error=str(error))
            continue
        try:
            _make_folder(job.out.parent)
            write_image(job.out, fused)
        except FusionProxyError as error:
            left = len(jobs) - number
            after = f"; stopped with {left} of {len(jobs)} pairs left" if number else ""
            raise FusionProxyError(f"{error}{after}") from error
        height_px, width_px = fused.shape[:2]
        yield Outcome(job, width_px=width_px, height_px=height_px, fuse_ms=fuse_ms)


def _listed(arguments: Sequence[str]) -> list[Path]:
    """Returns the images that files, folders and patterns stand for, each once."""
    found: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            paths = list_images(path)
            if not paths:
                raise FusionProxyError(f"there are no images directly in folder {path}")
        elif path.exists():
            # Whatever its name: the reader will tell whether it is an image.
            paths = [path]
        elif glob.has_magic(argument):
            matches = glob.glob(str(path), recursive=True)
            paths = sorted(p for p in map(Path, matches) if is_image(p))
            if not paths:
                raise FusionProxyError(f"no images match {argument}")
        else:
            raise FusionProxyError(f"there is no file or folder {path}")
        found.update(dict.fromkeys(paths))
    return list(found)


def _paired(visible: list[Path], infrared: list[Path]) -> list[tuple[Path, Path]]:
    if len(visible) == len(infrared) == 1:
        return [(visible[0], infrared[0])]
    visible_keys, infrared_keys = keyed(visible), keyed(infrared)
    if len(visible) == 1:
        # One image out of a folder of infrared ones: the rest needs no partner.
        stem = visible[0].stem
        infrared_keys = {k: p for k, p in infrared_keys.items() if k == stem}
    pairs = matched(visible_keys, infrared_keys)
    return [(visible_path, infrared_path) for _, visible_path, infrared_path in pairs]


def _check_inputs_survive(jobs: Sequence[FusionJob]) -> None:
    inputs = {path.resolve() for job in jobs for path in (job.visible, job.infrared)}
    lost = [job.out for job in jobs if job.out.resolve() in inputs]
    if lost:
        raise FusionProxyError(
            f"{some_names(lost)} is an input and would be replaced; give another --out"
        )


def _check_writable(folder: Path) -> None:
    """Checks `folder`, or the nearest one above it that exists, without creating it."""
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise FusionProxyError(
            f"cannot write into {folder}: {nearest} is not a folder; give another --out"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise FusionProxyError(
            f"cannot write into {folder}: no permission in {nearest}; "
            "give another --out"
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FusionProxyError(f"could not create folder {folder}: {reason}") from error
