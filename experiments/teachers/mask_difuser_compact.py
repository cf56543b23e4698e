"""Compact Mask-DiFuser: restoration and conflicts, profile S (two CPU cores).

Two stages: 5,000 steps with a cautious choice between the sources (base_spread 1.2),
then 1,600 with the default, which leaves more of it open; only conflicts can teach
that, so they are 80 % of the second stage.

Commands (FUSIONPROXY_DATA names the folder that holds roadscene/ msrs/ m3fd/ m3svd/):

    fusionproxy train-teacher --config experiments/teachers/mask_difuser_compact.py \
        --workdir runs/first --salient.base-spread 1.2 --salient.detail-spread 1.2
    fusionproxy export-teacher --workdir runs/first --out runs/first.safetensors
    fusionproxy train-teacher --config experiments/teachers/mask_difuser_compact.py \
        --workdir runs/second --start-from runs/first.safetensors --num-steps 1600 \
        --conflict-share 0.8 --optimizer.learning-rate 3e-4
    fusionproxy export-teacher --workdir runs/second \
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
