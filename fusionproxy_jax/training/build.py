"""Turns a `Config` into the network, its optimiser and the step spread over devices."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.losses.routing_variants import Routing
from fusionproxy_jax.models.student import Student
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.training.panel_features import PanelFeatures
from fusionproxy_jax.training.parallel import Parallel, check_batch_size, parallelize
from fusionproxy_jax.training.routing import build_routing, with_routing
from fusionproxy_jax.training.state import (
    InitParams,
    build_optimizer,
    student_params,
)
from fusionproxy_jax.training.step import TrainStep, make_train_step


class Parts(NamedTuple):
    """What a configuration means on any device."""

    module: Student
    init_params: InitParams
    """Key -> first parameters, those of a learned routing among them."""
    optimizer: optax.GradientTransformation
    make_step: Callable[[str | None], TrainStep]
    """Name of the mapped axis, None when there is none, to the step."""
    routing: Routing | None
    """How the backbones of a panel are weighted."""


class Training(NamedTuple):
    """What a configuration means on these devices, before any data or state."""

    parts: Parts
    parallel: Parallel
    process_batch_size: int
    """Images of a batch that this process loads."""


def build_parts(config: Config, *, panel: PanelFeatures | None = None) -> Parts:
    """Returns network, optimiser and step of a run.

    Args:
        config: The run.
        panel: What it aligns to; None switches Eq. 10 off.

    Raises:
        FusionProxyError: The crops do not fit the student, the warm-up does not fit
            the run, or the routing names a backbone that the panel has not.
    """
    module = build_student(config.student, dtype=jnp.dtype(config.compute_dtype))
    if config.data.crop_px % module.stride:
        raise FusionProxyError(
            f"data.crop_px is {config.data.crop_px}; a student of "
            f"{len(config.student.widths)} stages needs a multiple of {module.stride}"
        )
    optimizer, schedule = build_optimizer(config.optimizer, num_steps=config.num_steps)
    init_params, routing = student_params(module), None
    if panel is not None:
        names = panel.backbones
        routing = build_routing(config.loss, names, num_steps=config.num_steps)
        init_params = with_routing(init_params, routing, len(names))

    def make_step(axis_name: str | None) -> TrainStep:
        return make_train_step(
            lambda params, *pair: module.apply({"params": params}, *pair),
            optimizer,
            loss=config.loss,
            misalignment=config.misalignment,
            ema_decay=config.optimizer.ema_decay,
            schedule=schedule,
            panel=panel,
            routing=routing,
            axis_name=axis_name,
        )

    return Parts(module, init_params, optimizer, make_step, routing)


def build_training(
    config: Config,
    *,
    panel: PanelFeatures | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Training:
    """Returns the parts of a run on its devices; nothing is compiled yet.

    Args:
        config: The run.
        panel: What it aligns to; None switches Eq. 10 off.
        devices: All of the run; None takes all there are.

    Raises:
        FusionProxyError: As `build_parts`, or the batch does not divide over the
            devices.
    """
    parts = build_parts(config, panel=panel)
    parallel = parallelize(
        parts.make_step,
        mode=config.parallel,
        frozen=None if panel is None else panel.frozen,
        devices=devices,
    )
    process_batch_size = check_batch_size(
        config.data.batch_size,
        num_processes=jax.process_count(),
        num_shards=parallel.num_shards,
    )
    return Training(parts, parallel, process_batch_size)
