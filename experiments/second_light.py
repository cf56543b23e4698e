"""Student `base` taught by the default ensemble: compact DDFM, mode `salient`.

Commands (FUSIONPROXY_DATA names the folder that holds roadscene/ msrs/ m3fd/ m3svd/):

    fusionproxy teach --config experiments/second_light.py --cache runs/second_light \
        --sheets 8 --accept-failed-gate
    fusionproxy train --config experiments/second_light.py --cache runs/second_light \
        --workdir runs/base --start-from base
    fusionproxy export --workdir runs/base --out runs/base/student --name base

It went on from the `base` of 0.1.0 (`first_light.py`), which the name stood for then.
One tile of every image costs two x86 cores about 17 minutes (191 tiles at 5.3 s), all
957 tiles five times that.

Measured: 19 min to teach, 16 min to train beside other work. The gate fails: the
worst sample of 191 tiles adds 12.3 % saturated pixels. The student has replaced
the first `base`: better on RoadScene and M3FD, worse on the one MSRS and the two M3SVD
pairs, numbers in the model card.
"""

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


def get_config() -> Config:
    root = os.environ.get("FUSIONPROXY_DATA")
    if not root:
        raise FusionProxyError(
            "FUSIONPROXY_DATA is not set; set it to the folder that holds roadscene/, "
            "msrs/, m3fd/ and m3svd/"
        )
    names = ("roadscene", "msrs", "m3fd", "m3svd")
    return Config(
        teacher=TeacherConfig(teachers=("ddfm",), num_samples=4, tiles_per_image=1),
        # Crops of 128 px; features of a panel would tie it to whole tiles.
        panel=PanelConfig(backbones=()),
        data=DataConfig(
            sources=tuple(str(Path(root) / name) for name in names),
            crop_px=128,
            batch_size=8,
        ),
        misalignment=MisalignmentConfig(
            translation_px=3.0, rotation_deg=1.0, probability=0.15
        ),
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=50, ema_decay=0.998),
        num_steps=1500,
        checkpoint_every=250,
        picture_every=500,
    )
