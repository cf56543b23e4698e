"""A default configuration that teaches and trains in a moment."""

import dataclasses
from pathlib import Path

from tiny_student import TINY

from fusionproxy_jax.config import (
    Config,
    DataConfig,
    DDFMConfig,
    MisalignmentConfig,
    OptimizerConfig,
    PanelConfig,
    TeacherConfig,
)

BASE = Config(
    student=TINY,
    teacher=TeacherConfig(
        # `average` stands in for Mask-DiFuser and costs nothing.
        teachers=("gaussian", "average"),
        num_samples=2,
        ddfm=DDFMConfig(mode="balanced", num_steps=2),
        tile_px=32,
        tiles_per_image=1,
    ),
    panel=PanelConfig(backbones=(), grid=8),
    data=DataConfig(batch_size=2, crop_px=32, validation_fraction=0.34),
    misalignment=MisalignmentConfig(translation_px=1.0, rotation_deg=1.0),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=1),
    num_steps=3,
    log_every=1,
    checkpoint_every=2,
    picture_every=100,
)


def base_on(pairs: Path, panel: tuple[str, ...] = ()) -> Config:
    """Returns the default on a folder of pairs, aligned to a panel or to nothing."""
    return dataclasses.replace(
        BASE,
        panel=dataclasses.replace(BASE.panel, backbones=panel),
        data=dataclasses.replace(BASE.data, sources=(str(pairs),)),
    )
