"""Pictures of a teacher in training: what it draws for the same held-out pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusionproxy_jax.config import (
    DDFMConfig,
    MaskDifuserConfig,
    TeacherConfig,
    TeacherTrainingConfig,
)
from fusionproxy_jax.diffusion.learned_prior import LearnedPrior
from fusionproxy_jax.evaluation.contact_sheet import contact_sheet
from fusionproxy_jax.runtime.images import write_image
from fusionproxy_jax.teachers.ddfm import image_key
from fusionproxy_jax.teachers.mask_difuser.sampling import Restorer
from fusionproxy_jax.teachers.registry import Teacher, prior_teacher, restorer_teacher
from fusionproxy_jax.training.pictures import crop_alike, to_uint8

PyTree = Any
_NUM_SAMPLES = 3
_NUM_STEPS = 10
_LARGEST_PX = 256


class TeacherPictures:
    """Draws samples with the network of any step: sources, samples, their mean."""

    def __init__(self, config: TeacherTrainingConfig, pairs: Sequence[dict]) -> None:
        """Takes the pairs to draw; with none, nothing is written."""
        self._config = config
        self._pairs = (
            crop_alike(pairs, stride=32, largest_px=_LARGEST_PX) if pairs else []
        )

    def write(self, directory: Path, step: int, params: PyTree) -> dict[str, Path]:
        """Writes `samples`, `directory`/<step>.png; nothing when there are no pairs."""
        if not self._pairs:
            return {}
        teacher = self._teacher(params)
        rows = []
        for pair in self._pairs:
            samples = teacher.draw(
                pair["visible"][None] / np.float32(255),
                pair["infrared"][None],
                image_key(0, pair["id"])[None],
                _NUM_SAMPLES,
            )
            samples = np.asarray(samples[0])
            rows.append(
                [
                    (f"visible  {pair['id']}", pair["visible"]),
                    ("infrared", to_uint8(pair["infrared"])),
                    *((f"sample, step {step}", to_uint8(one)) for one in samples),
                    ("mean", to_uint8(samples.mean(0))),
                ]
            )
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{step:07d}.png"
        write_image(path, contact_sheet(rows))
        return {"samples": path}

    def _teacher(self, params: PyTree) -> Teacher:
        config = self._config
        if config.teacher == "ddfm":
            settings = TeacherConfig(
                teachers=("ddfm",),
                ddfm=DDFMConfig(num_steps=_NUM_STEPS),
                salient=config.salient,
            )
            return prior_teacher(
                "ddfm", "", LearnedPrior(params, config.prior), settings
            )
        settings = TeacherConfig(
            teachers=("mask_difuser",),
            mask_difuser=MaskDifuserConfig(num_steps=_NUM_STEPS, index_shift=0),
        )
        return restorer_teacher("", Restorer(params, config.restorer), settings)
