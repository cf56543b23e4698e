"""Compact DDFM's prior: luminance of both cameras, profile S (two CPU cores).

Command (FUSIONPROXY_DATA names the folder that holds roadscene/ msrs/ m3fd/ m3svd/):

    fusionproxy train-teacher --config experiments/teachers/ddfm_compact.py \
        --workdir runs/ddfm
    fusionproxy export-teacher --workdir runs/ddfm \
        --out fusionproxy_jax/weights/teachers/ddfm_compact.safetensors
"""

import os
from pathlib import Path

from fusionproxy_jax.config import (
    DataConfig,
    OptimizerConfig,
    TeacherTrainingConfig,
)
from fusionproxy_jax.errors import FusionProxyError

SETS = ("roadscene", "msrs", "m3fd", "m3svd")


def get_config() -> TeacherTrainingConfig:
    root = os.environ.get("FUSIONPROXY_DATA")
    if not root:
        raise FusionProxyError(
            "FUSIONPROXY_DATA is not set; set it to the folder that holds "
            f"{', '.join(SETS)}"
        )
    return TeacherTrainingConfig(
        teacher="ddfm",
        data=DataConfig(
            sources=tuple(str(Path(root) / name) for name in SETS),
            crop_px=96,
            batch_size=8,
        ),
        optimizer=OptimizerConfig(
            learning_rate=4e-4, weight_decay=0.0, warmup_steps=200, ema_decay=0.999
        ),
        num_steps=5000,
        checkpoint_every=250,
        picture_every=500,
    )
