"""Turns a `Config` into the network, its optimiser and the step spread over devices."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.models.student import Student
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.training.parallel import Parallel, check_batch_size, parallelize
from fusionproxy_jax.training.state import build_optimizer
from fusionproxy_jax.training.step import TrainStep, make_train_step


class Training(NamedTuple):
    """What a configuration means, before any data or state."""

    module: Student
    optimizer: optax.GradientTransformation
    parallel: Parallel
    process_batch_size: int
    """Images of a batch that this process loads."""


def build_training(
    config: Config, *, devices: Sequence[jax.Device] | None = None
) -> Training:
    """Returns the parts of a run; nothing is compiled yet.

    Raises:
        FusionProxyError: The batch does not divide over the devices, the warm-up does
            not fit the run, or a panel is asked for.
    """
    if config.panel.backbones:
        raise FusionProxyError(
            f"panel.backbones is {config.panel.backbones!r}; no backbone can be loaded "
            "yet, so leave it empty, which switches the alignment term off"
        )
    module = build_student(config.student, dtype=jnp.dtype(config.compute_dtype))
    if config.data.crop_px % module.stride:
        raise FusionProxyError(
            f"data.crop_px is {config.data.crop_px}; a student of "
            f"{len(config.student.widths)} stages needs a multiple of {module.stride}"
        )
    optimizer, schedule = build_optimizer(config.optimizer, num_steps=config.num_steps)

    def make_step(axis_name: str | None) -> TrainStep:
        return make_train_step(
            lambda params, *pair: module.apply({"params": params}, *pair),
            optimizer,
            loss=config.loss,
            misalignment=config.misalignment,
            ema_decay=config.optimizer.ema_decay,
            schedule=schedule,
            axis_name=axis_name,
        )

    parallel = parallelize(make_step, mode=config.parallel, devices=devices)
    process_batch_size = check_batch_size(
        config.data.batch_size,
        num_processes=jax.process_count(),
        num_shards=parallel.num_shards,
    )
    return Training(module, optimizer, parallel, process_batch_size)
