"""A population that trains nothing: it leaves run folders as training would."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from tiny_student import random_params

from fusionproxy_jax.config import Config, to_json
from fusionproxy_jax.evaluation.contact_sheet import contact_sheet
from fusionproxy_jax.runtime.images import write_image
from fusionproxy_jax.training.checkpoint import Checkpoints
from fusionproxy_jax.training.interruption import stop_requests
from fusionproxy_jax.training.population import PopulationProgress, PopulationResult

BACKBONES = ("one#y", "two#y")
DEADLY_RATE = 100.0


def train_population(
    members,
    cache,
    workdir,
    member_dirs,
    *,
    members_at_once=None,
    progress=None,
    tell=None,
    wandb=None,
):
    """Reports every `log_every` steps; members of a deadly learning rate die at 3."""
    workdir.mkdir(parents=True, exist_ok=True)
    state = workdir / "step.json"
    step = json.loads(state.read_text()) if state.exists() else 0
    config = next(iter(members.values()))
    for name, directory in member_dirs.items():
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(to_json(members[name]))
    with stop_requests() as stop:
        while step < config.num_steps and not stop:
            step = min(step + config.log_every, config.num_steps)
            died_at = {
                name: 3
                if one.optimizer.learning_rate >= DEADLY_RATE and step >= 3
                else None
                for name, one in members.items()
            }
            metrics = {
                name: metrics_at(members[name], step, dead=died_at[name] is not None)
                for name in members
            }
            for name, values in metrics.items():
                add_row(member_dirs[name], step, values)
            state.write_text(json.dumps(step))
            if progress is not None:
                left = (config.num_steps - step) / 4.0
                progress(
                    PopulationProgress(
                        step, config.num_steps, 4.0, left, metrics, died_at
                    )
                )
    if step == config.num_steps:
        died_at = {
            name: 3 if one.optimizer.learning_rate >= DEADLY_RATE else None
            for name, one in members.items()
        }
        for name, directory in member_dirs.items():
            if members[name].data.sources:
                finish(members[name], directory, step)
    return PopulationResult(step, stop.signal_number, died_at, 0.25)


def metrics_at(config: Config, step: int, *, dead: bool = False) -> dict[str, float]:
    """Returns losses that fall, the faster the higher the learning rate."""
    temperature = config.loss.routing_temperature
    entropy = 1.0 if math.isinf(temperature) else temperature / (temperature + 1.0)
    loss = 1.0 / (1.0 + step * config.optimizer.learning_rate) + 0.01 * config.seed
    values = {
        "loss": loss,
        "pixel_loss": loss / 2,
        "structure_loss": loss / 4,
        "alignment_loss": loss / 8,
        "routing_entropy": entropy,
        "routing_weight/one#y": 0.25,
        "routing_weight/two#y": 0.75,
    }
    return dict.fromkeys(values, math.nan) if dead else values


def add_row(directory: Path, step: int, values: Mapping[str, float]) -> None:
    row = {name: one if math.isfinite(one) else None for name, one in values.items()}
    with (directory / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, **row}) + "\n")


def finish(config: Config, directory: Path, step: int) -> None:
    """Leaves a checkpoint, which takes its time, and the pictures of the last step."""
    params = random_params(config.student, config.seed)
    checkpoints = Checkpoints(directory, keep=1)
    meta = {"config": json.loads(to_json(config))}
    checkpoints.save(step, {"ema_params": jax.tree.map(np.asarray, params)}, meta)
    checkpoints.close()
    draw(directory, step, shade=40 * (config.seed % 5))


def draw(directory: Path, step: int, *, shade: int) -> None:
    """Draws two held-out pairs of 30x40 px, and the routing of two tiles."""
    (directory / "pictures").mkdir(exist_ok=True)

    def grey(value: int, height: int = 32, width: int = 32) -> np.ndarray:
        return np.full((height, width), value, np.uint8)

    pairs = [
        [("visible", grey(10, 30, 40)), ("ir", grey(20, 30, 40)), ("fused", fused)]
        for fused in (grey(shade, 30, 40), grey(shade + 5, 30, 40))
    ]
    write_image(directory / f"pictures/{step:07d}.png", contact_sheet(pairs))
    tiles = [
        [
            *(("visible", grey(10)), ("infrared", grey(20))),
            *(("one, mean 0.25", grey(64)), ("two, mean 0.75", grey(191))),
            ("entropy, mean 0.81", grey(shade)),
        ]
        for _ in range(2)
    ]
    write_image(directory / f"pictures/routing-{step:07d}.png", contact_sheet(tiles))
