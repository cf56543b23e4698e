"""Compact Mask-DiFuser: restoration and conflicts, profile S (two CPU cores).

Command (FUSIONPROXY_DATA names the folder that holds roadscene/ msrs/ m3fd/ m3svd/):

    fusionproxy train-teacher --config experiments/teachers/mask_difuser_compact.py \
        --workdir runs/mask_difuser
    fusionproxy export-teacher --workdir runs/mask_difuser \
        --out fusionproxy_jax/weights/teachers/mask_difuser_compact.safetensors
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
        teacher="mask_difuser",
        data=DataConfig(
            sources=tuple(str(Path(root) / name) for name in SETS),
            crop_px=96,
            batch_size=4,
        ),
        optimizer=OptimizerConfig(
            learning_rate=4e-4, weight_decay=0.0, warmup_steps=200, ema_decay=0.999
        ),
        num_steps=5000,
        checkpoint_every=250,
        picture_every=500,
    )
