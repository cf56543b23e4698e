"""One update of any network as a pure function, the same on any number of devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fusionproxy_jax.training.state import Schedule, TrainState, update_ema

PyTree = Any
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch, jax.Array, PyTree], tuple[TrainState, Metrics]]


class Circumstances(NamedTuple):
    """What an objective may depend on besides parameters and batch."""

    keys: jax.Array
    """One random key per image, [b]."""
    step: jax.Array
    """Updates made so far."""
    frozen: PyTree
    """Arrays that are never trained, the same at every step."""


# (params, batch, circumstances) -> (mean loss over the batch, its terms by name).
Objective = Callable[[PyTree, Batch, Circumstances], tuple[jax.Array, Metrics]]


def per_image_keys(key: jax.Array, num_images: int, axis_name: str | None) -> jax.Array:
    """Returns one key per image, from its position in the global batch.

    An image gets the same key whether its batch lies on one device or is spread over
    many, so the number of devices changes nothing but the speed.
    """
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * num_images
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(
        first + jnp.arange(num_images)
    )


def make_update(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: float,
    schedule: Schedule | None = None,
    axis_name: str | None = None,
) -> TrainStep:
    """Returns the pure function (state, batch, key, frozen) -> (state, metrics).

    `key` is the run's; the step folds its own number in, so that a resumed run draws
    what the uninterrupted one would have drawn. `frozen` goes to the objective: what
    were a constant of the program otherwise, however large.

    Args:
        objective: What is minimised; differentiated with respect to parameters only.
        optimizer: Turns gradients into updates.
        ema_decay: Limit of the weight average's decay.
        schedule: Step -> learning rate, for the metrics only.
        axis_name: Mapped axis the batch is spread over; None when the batch is whole.

    Metrics are scalars: `loss`, its terms, `gradient_norm` before clipping,
    `learning_rate`, and `finite`, which is False when the loss, the gradient or the
    updated parameters hold a NaN or an infinity.
    """

    def average(tree: PyTree) -> PyTree:
        return tree if axis_name is None else jax.lax.pmean(tree, axis_name)

    def train_step(
        state: TrainState, batch: Batch, key: jax.Array, frozen: PyTree = None
    ) -> tuple[TrainState, Metrics]:
        num_images = jax.tree.leaves(batch)[0].shape[0]
        step_key = jax.random.fold_in(key, state.step)
        keys = per_image_keys(step_key, num_images, axis_name)
        (value, terms), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.params, batch, Circumstances(keys, state.step, frozen)
        )
        value, terms, gradients = average((value, terms, gradients))
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        gradient_norm = optax.tree.norm(gradients)
        health = jnp.stack([value, gradient_norm, optax.tree.norm(params)])
        metrics = {
            "loss": value,
            **terms,
            "gradient_norm": gradient_norm,
            "finite": jnp.all(jnp.isfinite(health)),
        }
        if schedule is not None:
            metrics["learning_rate"] = schedule(state.step)
        moved = TrainState(
            step=state.step + 1,
            params=params,
            ema_params=update_ema(
                state.ema_params, params, step=state.step, decay=ema_decay
            ),
            opt_state=opt_state,
        )
        return moved, metrics

    return train_step
