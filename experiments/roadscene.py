"""The paper's recipe on RoadScene, the data at hand: student `small`, panel of two.

Commands (FUSIONPROXY_DATA names the folder that holds roadscene/, FUSIONPROXY_MODELS
that of the two detectors of panel `compact`):

    fusionproxy teach --config experiments/roadscene.py --cache runs/roadscene_cache \
        --panel.backbones compact --accept-failed-gate
    fusionproxy train --config experiments/roadscene.py --cache runs/roadscene_cache \
        --workdir runs/roadscene
    fusionproxy export --workdir runs/roadscene --out runs/roadscene/student \
        --name roadscene
    fusionproxy evaluate --pairs "$FUSIONPROXY_DATA"/roadscene \
        --validation-fraction 0.1 --model runs/roadscene/student/roadscene.onnx

As `msrs.py`, but for what a machine without an accelerator allows: tiles of 128 px, one
of each of the 154 training pairs, the student that ships by default, compact teachers,
and 40 epochs. Misalignment is halved with the tiles' side: 5 px of 128.

Hardware: two x86 cores. Expected: 3 min to teach, 12 min to train (0.75 s a step).

Measured numbers: none yet; 200 steps of half the batch are in `sweeps/README.md`.
"""

import math
import os
from pathlib import Path

from fusionproxy_jax.config import (
    Config,
    DataConfig,
    MisalignmentConfig,
    OptimizerConfig,
    PanelConfig,
    TeacherConfig,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.models.variants import student_config

NUM_IMAGES = 154
NUM_EPOCHS = 40
BATCH_SIZE = 8


def get_config() -> Config:
    root = os.environ.get("FUSIONPROXY_DATA")
    if not root:
        raise FusionProxyError(
            "FUSIONPROXY_DATA is not set; set it to the folder that holds roadscene/"
        )
    return Config(
        student=student_config("small"),
        teacher=TeacherConfig(
            teachers=("ddfm", "mask_difuser"),
            num_samples=4,
            tile_px=128,
            tiles_per_image=1,
        ),
        panel=PanelConfig(backbones=("auto",), grid=64),
        misalignment=MisalignmentConfig(
            translation_px=5.0, rotation_deg=2.0, probability=1.0
        ),
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=50, ema_decay=0.99),
        data=DataConfig(
            sources=(str(Path(root) / "roadscene"),),
            validation_fraction=0.1,
            crop_px=128,
            batch_size=BATCH_SIZE,
        ),
        num_steps=NUM_EPOCHS * math.ceil(NUM_IMAGES / BATCH_SIZE),
        checkpoint_every=200,
        picture_every=400,
    )
