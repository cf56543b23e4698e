"""A named student from random weights, taught by the default ensemble.

Commands (FUSIONPROXY_DATA names the folder that holds roadscene/ msrs/ m3fd/ m3svd/;
the cache is that of `experiments/second_light.py`):

    fusionproxy train --config experiments/students/distilled.py:nano \
        --cache runs/second_light --workdir runs/nano
    fusionproxy export --workdir runs/nano --out runs/nano/student --name nano

and the same for `small`. A comparison of backbones adds `--num-steps 400
--optimizer.warmup-steps 40`.
"""

import dataclasses
import runpy
from pathlib import Path

from fusionproxy_jax.config import Config, OptimizerConfig
from fusionproxy_jax.models.variants import student_config

_ENSEMBLE = Path(__file__).parents[1] / "second_light.py"


def get_config(student: str = "small") -> Config:
    taught = runpy.run_path(str(_ENSEMBLE))["get_config"]()
    return dataclasses.replace(
        taught,
        student=student_config(student),
        optimizer=OptimizerConfig(
            learning_rate=1.5e-3, warmup_steps=200, ema_decay=0.998
        ),
        num_steps=4000,
        checkpoint_every=500,
        picture_every=1000,
    )
