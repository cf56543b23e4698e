"""The paper's Table 4 in miniature: the default that its rows vary.

Commands (FUSIONPROXY_DATA names the folder that holds roadscene/ msrs/ m3fd/ m3svd/,
FUSIONPROXY_MODELS that of the panel's two detectors):

    fusionproxy ablate --config experiments/ablations.py --rows all \
        --cache-dir runs/ablation_caches --workdir runs/ablations
    fusionproxy ablate --workdir runs/ablations --report

Rows a to l are the paper's, m to p what it leaves open: two samples of each teacher
instead of four, the plain average as second teacher, pixel weights by the variance
within teachers, and the features of the ensemble mean as target. Samples are drawn once
for all of them; c, h and l are one run, and c, e and g train as one program.

Hardware: two x86 cores. Measured: 45 min beside other work; the table is
`ablations/table.md`, what it says in `ablations/README.md`.

From the paper it differs in: compact teachers, tiles of 128 px from 191 pairs of four
data sets, the panel `compact` where the paper's four have no weights here, and few
steps. table.md says all of it beside the numbers.
"""

import os
from pathlib import Path

from fusionproxy_jax.config import (
    Config,
    DataConfig,
    MisalignmentConfig,
    OptimizerConfig,
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
        teacher=TeacherConfig(
            teachers=("ddfm", "mask_difuser"),
            num_samples=4,
            tile_px=128,
            tiles_per_image=1,
        ),
        data=DataConfig(
            sources=tuple(str(Path(root) / name) for name in names),
            crop_px=128,
            batch_size=4,
        ),
        # As the shipped students: the paper's 10 px are at 256 px and blur edges.
        misalignment=MisalignmentConfig(
            translation_px=3.0, rotation_deg=1.0, probability=0.15
        ),
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=20, ema_decay=0.99),
        num_steps=100,
        log_every=20,
        checkpoint_every=50,
        picture_every=100,
    )
