"""Pictures of held-out pairs during training: visible, infrared and fused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fusionproxy_jax.evaluation.contact_sheet import contact_sheet
from fusionproxy_jax.input_pipeline.pairs import load_pairs
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.models.student import Student
from fusionproxy_jax.runtime.images import write_image

PyTree = Any
Pair = dict[str, Any]


def held_out_pairs(
    sources: Sequence[str], *, validation_fraction: float, num_pairs: int
) -> list[Pair]:
    """Returns up to `num_pairs` validation pairs, spread evenly over the data sets."""
    if not sources or validation_fraction == 0:
        return []
    pairs = load_pairs(tuple(sources))
    _, validation = split_pairs(pairs.ids_and_groups, validation_fraction)
    if not validation:
        return []
    chosen = np.linspace(0, len(validation) - 1, num_pairs).round().astype(int)
    return [pairs[validation[index]] for index in sorted(set(chosen))]


def crop_alike(pairs: Sequence[Pair], *, stride: int, largest_px: int) -> list[Pair]:
    """Returns the pairs cut about their centres to one size, a multiple of `stride`.

    One size for all means the student is compiled once.
    """
    shapes = np.array([pair["infrared"].shape for pair in pairs])
    height, width = np.minimum(shapes.min(axis=0), largest_px) // stride * stride

    def cut(image: np.ndarray) -> np.ndarray:
        top = (image.shape[0] - height) // 2
        left = (image.shape[1] - width) // 2
        return image[top : top + height, left : left + width]

    return [
        {**pair, "visible": cut(pair["visible"]), "infrared": cut(pair["infrared"])}
        for pair in pairs
    ]


class ValidationPictures:
    """Fuses the same few held-out pairs with the student of any step."""

    def __init__(
        self,
        module: Student,
        sources: Sequence[str],
        *,
        validation_fraction: float,
        num_pairs: int = 4,
        largest_px: int = 480,
    ) -> None:
        """Reads the pairs; none are there when `sources` or the split are empty."""
        pairs = held_out_pairs(
            sources, validation_fraction=validation_fraction, num_pairs=num_pairs
        )
        self._pairs = (
            crop_alike(pairs, stride=module.stride, largest_px=largest_px)
            if pairs
            else []
        )
        self._fuse = jax.jit(
            lambda params, *pair: module.apply({"params": params}, *pair).clip(0, 1)
        )

    def write(self, directory: Path, step: int, params: PyTree) -> Path | None:
        """Writes `directory`/<step>.png; returns None when there are no pairs."""
        if not self._pairs:
            return None
        rows = [
            [
                (f"visible  {pair['id']}", pair["visible"]),
                ("infrared", to_uint8(pair["infrared"])),
                (f"fused, step {step}", self._fused(params, pair)),
            ]
            for pair in self._pairs
        ]
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{step:07d}.png"
        write_image(path, contact_sheet(rows))
        return path

    def _fused(self, params: PyTree, pair: Pair) -> np.ndarray:
        visible = pair["visible"][None].astype(np.float32) / 255
        infrared = pair["infrared"][None, ..., None]
        return to_uint8(np.asarray(self._fuse(params, visible, infrared))[0])


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Returns [0, 1] as 8 bits, clipped and rounded; NaN, of a dead student, is 0."""
    return np.round(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
