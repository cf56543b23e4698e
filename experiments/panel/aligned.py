"""Student `base` on whole tiles, to be trained with and without a panel.

Commands (FUSIONPROXY_DATA names the folder that holds roadscene/ msrs/ m3fd/ m3svd/,
FUSIONPROXY_MODELS that of the two detectors of panel `compact`):

    fusionproxy teach --config experiments/second_light.py --cache runs/second_light \
        --panel.backbones compact
    for panel in "" compact; do
        fusionproxy train --config experiments/panel/aligned.py \
            --cache runs/second_light --workdir "runs/panel_$panel" \
            --start-from base --panel.backbones $panel
        fusionproxy export --workdir "runs/panel_$panel" --out runs/panel \
            --name "panel_$panel"
    done

Features belong to whole tiles, so that crops and flips are off in both. Other than
`second_light.py`, whose student they go on from: 400 steps of 4 tiles at 2e-4.
"""

import os
import runpy
from dataclasses import replace
from pathlib import Path

from fusionproxy_jax.config import Config, PanelConfig

SECOND_LIGHT = Path(__file__).parents[1] / "second_light.py"


def get_config() -> Config:
    config = runpy.run_path(os.fspath(SECOND_LIGHT))["get_config"]()
    return replace(
        config,
        panel=PanelConfig(backbones=("compact",)),
        data=replace(config.data, crop_px=256, flip=False, batch_size=4),
        optimizer=replace(config.optimizer, learning_rate=2e-4, warmup_steps=20),
        num_steps=400,
        checkpoint_every=100,
        picture_every=200,
    )
