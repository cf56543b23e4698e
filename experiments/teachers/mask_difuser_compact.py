"""Compact Mask-DiFuser: restoration and conflicts, profile S (two CPU cores).

Three stages: 5,000 steps with a cautious choice between the sources (base_spread 1.2);
1,600 with the default, which leaves more of it open, and 80 % conflicts, as only these
can teach that; 6,000 more of the same, until samples agree where the sources do. Two
hours and a half in all on two cores.

Commands (FUSIONPROXY_DATA names the folder that holds roadscene/ msrs/ m3fd/ m3svd/):

    fusionproxy train-teacher --config experiments/teachers/mask_difuser_compact.py \
        --workdir runs/first --salient.base-spread 1.2 --salient.detail-spread 1.2
    fusionproxy export-teacher --workdir runs/first --out runs/first.safetensors
    fusionproxy train-teacher --config experiments/teachers/mask_difuser_compact.py \
        --workdir runs/second --start-from runs/first.safetensors --num-steps 1600 \
        --conflict-share 0.8 --optimizer.learning-rate 3e-4
    fusionproxy export-teacher --workdir runs/second --out runs/second.safetensors
    fusionproxy train-teacher --config experiments/teachers/mask_difuser_compact.py \
        --workdir runs/third --start-from runs/second.safetensors --num-steps 6000 \
        --conflict-share 0.8
    fusionproxy export-teacher --workdir runs/third \
        --out fusionproxy_jax/weights/teachers/mask_difuser_compact.safetensors

The shipped weights' first two stages were run without the term for edges, and with
half of the views of conflicts degraded instead of a quarter.
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
