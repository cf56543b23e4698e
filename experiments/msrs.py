"""The paper's recipe on MSRS: student `base`, 160 epochs, dual teacher, panel of four.

Commands (the teachers' published weights are files of their authors, see below):

    fusionproxy prepare data/msrs
    fusionproxy panel fetch paper
    fusionproxy teach --config experiments/msrs.py --cache runs/msrs_cache \
        --panel.backbones paper
    fusionproxy train --config experiments/msrs.py --cache runs/msrs_cache \
        --workdir runs/msrs
    fusionproxy export --workdir runs/msrs --out runs/msrs/student --name base

Settings of Secs. 3.5 and 4.1: batch 8, 256x256, lambda 1.0/0.5/0.2, N = 4 samples of
each of two teachers, tau 1, misalignment of up to 10 px and 2 degrees, always. The
paper names no optimiser; ours are AdamW, warm-up, cosine, weight averaging. A tenth of
the scenes, chosen by the hash of their names, is held out.

Two deviations, each a field below: the teachers are the compact ones of this package
unless --teacher.ddfm.weights and --teacher.mask-difuser.weights name the published
files, and tiles of 256 px are cut from the 480x640 images (six of each), where the
paper does not say how it gets to 256x256. An epoch is one tile of every image.

Hardware of the paper: one H100. Expected time: that of 19,520 steps, which
`fusionproxy bench training --config experiments/msrs.py` measures on any machine.

Expected numbers, Table 1 of the paper: MUSIQ 48.2, CLIP-IQA 0.37, DeQA 2.38, EN 6.57,
MI 7.64, SF 9.33, Qabf 0.32, mAP 76.5, mIoU 65.4.

Measured numbers: none yet, it was not run here.
"""

import math

from fusionproxy_jax.config import (
    Config,
    DataConfig,
    LossConfig,
    MisalignmentConfig,
    OptimizerConfig,
    PanelConfig,
    TeacherConfig,
)

# Of MSRS's 1,083 training pairs, without the tenth that is held out.
NUM_IMAGES = 975
NUM_EPOCHS = 160
BATCH_SIZE = 8


def get_config() -> Config:
    return Config(
        teacher=TeacherConfig(teachers=("ddfm", "mask_difuser"), num_samples=4),
        panel=PanelConfig(backbones=("auto",), grid=64),
        loss=LossConfig(
            pixel_weight=1.0,
            alignment_weight=0.5,
            structure_weight=0.2,
            routing_temperature=1.0,
        ),
        misalignment=MisalignmentConfig(
            translation_px=10.0, rotation_deg=2.0, probability=1.0
        ),
        optimizer=OptimizerConfig(learning_rate=2e-4),
        data=DataConfig(
            sources=("tfds:msrs",),
            validation_fraction=0.1,
            crop_px=256,
            batch_size=BATCH_SIZE,
        ),
        num_steps=NUM_EPOCHS * math.ceil(NUM_IMAGES / BATCH_SIZE),
    )
