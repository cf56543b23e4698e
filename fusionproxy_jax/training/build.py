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
from fusionproxy_jax.training.knobs import Knobs
from fusionproxy_jax.training.panel_features import PanelFeatures
from fusionproxy_jax.training.parallel import Parallel, parallelize
from fusionproxy_jax.training.routing import build_routing, with_routing
from fusionproxy_jax.training.state import (
    InitParams,
    Schedule,
    build_optimizer,
    moments_and_average,
    student_params,
)
from fusionproxy_jax.training.step import TrainStep, make_train_step


class Parts(NamedTuple):
    """What a configuration means on any device."""

    module: Student
    init_params: InitParams
    """Key -> first parameters, those of a learned routing among them."""
    optimizer: optax.GradientTransformation
    make_step: Callable[..., TrainStep]
    """(name of the mapped axis or None, knobs = the configuration's) to the step."""
    routing: Routing | None
    """How the backbones of a panel are weighted."""
    route: Callable[[Knobs], Routing | None]
    """As `routing`, with other knobs."""


class Training(NamedTuple):
    """What a configuration means on these devices, before any data or state."""

    parts: Parts
    parallel: Parallel


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
    knobs = Knobs.of(config)
    optimizer, _ = optimizer_of(config, knobs)
    init_params = student_params(module)

    def route(knobs: Knobs) -> Routing | None:
        if panel is None:
            return None
        return build_routing(
            config.loss.routing, knobs, panel.backbones, num_steps=config.num_steps
        )

    routing = route(knobs)
    if panel is not None:
        init_params = with_routing(init_params, routing, len(panel.backbones))

    def make_step(axis_name: str | None, knobs: Knobs = knobs) -> TrainStep:
        optimizer, schedule = optimizer_of(config, knobs)
        return make_train_step(
            lambda params, *pair: module.apply({"params": params}, *pair),
            optimizer,
            knobs=knobs,
            alignment_norm=config.loss.alignment_norm,
            schedule=schedule,
            panel=panel,
            routing=route(knobs),
            num_parts=config.gradient_accumulation,
            axis_name=axis_name,
        )

    return Parts(module, init_params, optimizer, make_step, routing, route)


def optimizer_of(
    config: Config, knobs: Knobs
) -> tuple[optax.GradientTransformation, Schedule]:
    """Returns the optimiser and learning rate of a run, with the numbers of `knobs`."""
    return build_optimizer(
        config.optimizer.method,
        learning_rate=knobs.learning_rate,
        warmup_steps=config.optimizer.warmup_steps,
        num_steps=config.num_steps,
        weight_decay=knobs.weight_decay,
        gradient_clip=knobs.gradient_clip,
    )


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
        FusionProxyError: As `build_parts`, or the batch has fewer images than there
            are processes.
    """
    parts = build_parts(config, panel=panel)
    parallel = parallelize(
        parts.make_step,
        mode=config.parallel,
        batch_size=config.data.batch_size,
        num_parts=config.gradient_accumulation,
        frozen=None if panel is None else panel.frozen,
        sharded=moments_and_average if config.optimizer.sharded else None,
        devices=devices,
    )
    return Training(parts, parallel)
