"""Routing temperature of Eq. 8: six values by two seeds of the student `small`.

Commands (FUSIONPROXY_DATA names the folder that holds roadscene/ msrs/ m3fd/ m3svd/,
FUSIONPROXY_MODELS that of the two detectors of panel `compact`):

    fusionproxy teach --config experiments/sweeps/temperature.py --cache runs/cache128 \
        --panel.backbones compact --accept-failed-gate
    fusionproxy sweep experiments/sweeps/temperature.py --cache runs/cache128 \
        --workdir runs/temperature

The twelve members differ in numbers only and train as one program. As an array job of
four tasks, each with three members: add `--index 0 --count 4` to `--index 3 --count 4`.

Temperatures: the panel's weights are nearly hard at 0.01 (mean entropy 0.06 of 1) and
nearly uniform at the usual 1 (0.91); 0.03, 0.1 and 0.3 lie between (0.16, 0.38, 0.68).
Above 1 there is little left to lose, so infinity stands for all of it: uniform
weighting, row (e) of Table 4.

Hardware: two x86 cores. Expected: about 16 min for 12 x 200 steps of 0.4 s.

Measured: 17 min beside other work, 0.42 s a member's step; numbers, charts and what
was learned are in `README.md` beside this file.
"""

import math
import os
import runpy
from dataclasses import replace
from pathlib import Path

from fusionproxy_jax.config import Config, OptimizerConfig, PanelConfig, TeacherConfig
from fusionproxy_jax.models.variants import student_config

SECOND_LIGHT = Path(__file__).parents[1] / "second_light.py"
TEMPERATURES = (0.01, 0.03, 0.1, 0.3, 1.0, math.inf)
SEEDS = (0, 1)


def base() -> Config:
    config = runpy.run_path(os.fspath(SECOND_LIGHT))["get_config"]()
    return replace(
        config,
        student=student_config("small"),
        teacher=TeacherConfig(
            teachers=("ddfm", "mask_difuser"),
            num_samples=4,
            tile_px=128,
            tiles_per_image=1,
        ),
        panel=PanelConfig(backbones=("auto",)),
        data=replace(config.data, crop_px=128, flip=False, batch_size=4),
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=50, ema_decay=0.99),
        num_steps=200,
        log_every=20,
        checkpoint_every=100,
        picture_every=200,
    )


# What `fusionproxy teach --config` and `fusionproxy train --config` take.
get_config = base


def sweep() -> dict[str, Config]:
    config = base()
    return {
        f"tau={tau:g},seed={seed}": replace(
            config, seed=seed, loss=replace(config.loss, routing_temperature=tau)
        )
        for tau in TEMPERATURES
        for seed in SEEDS
    }
