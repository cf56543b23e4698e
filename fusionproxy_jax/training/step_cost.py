"""What one training step costs, from shapes alone: nothing is computed or loaded."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fusionproxy_jax.config import Config
from fusionproxy_jax.training.build import build_parts
from fusionproxy_jax.training.panel_features import PanelFeatures
from fusionproxy_jax.training.state import empty_state_of

PyTree = Any


@dataclass(frozen=True)
class StepCost:
    """Of one step on one device, as the compiler of this machine's backend counts.

    Attributes:
        flops: Floating-point operations, two a multiply-add.
        argument_bytes: State, batch and frozen parameters.
        temporary_bytes: Largest memory for values in between.
    """

    flops: float
    argument_bytes: int
    temporary_bytes: int


def step_cost(config: Config, panel: PanelFeatures | None = None) -> StepCost:
    """Returns the cost of a step of `config` on a batch of data.crop_px squares.

    Args:
        config: The run.
        panel: What it aligns to; leaves of its `frozen` need only shape and dtype.
    """
    parts = build_parts(config, panel=panel)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = empty_state_of(parts.init_params, parts.optimizer)
    frozen = None if panel is None else panel.frozen
    batch = batch_shapes(config, panel)
    step = jax.jit(parts.make_step(None), donate_argnums=(0,))
    compiled = step.lower(state, batch, key, frozen).compile()
    memory = compiled.memory_analysis()
    return StepCost(
        flops=float(compiled.cost_analysis()["flops"]),
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
    )


def batch_shapes(
    config: Config, panel: PanelFeatures | None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes of a global batch, with the panel's targets and variances."""
    num_images, side = config.data.batch_size, config.data.crop_px
    square, grid = (num_images, side, side), (config.panel.grid, config.panel.grid)
    shapes = {
        "visible": (*square, 3),
        "infrared": (*square, 1),
        "ensemble_mean": (*square, 3),
        "ensemble_variance": square,
    }
    if panel is not None:
        images = jax.ShapeDtypeStruct((*square, 3), jnp.float32)
        features = jax.eval_shape(panel.extract, panel.frozen, images)
        for name, own in zip(panel.backbones, features, strict=True):
            shapes[f"feature_target/{name}"] = own.shape
            shapes[f"feature_variance/{name}"] = (num_images, *grid)
    return {
        name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()
    }
