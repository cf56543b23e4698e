"""One update of any network as a pure function, the same on any number of devices.

A batch is a dict of arrays [b, ...], one row an image. Two entries are not data:
`position` [b] int32, the row's place in the global batch, and `weight` [b] float32, 1
for an image and 0 for a row that only fills a device up. Sums over rows are weighted
and divided by the sum of all weights in the end, so that gradient and metrics are means
over the images of the global batch however they are spread: over devices that get
unequally many, over processes, or over parts computed one after the other. A batch
without the two is whole, and an image in every row.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import ScalarLike

from fusionproxy_jax.training.state import Schedule, TrainState, update_ema

PyTree = Any
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch, jax.Array, PyTree], tuple[TrainState, Metrics]]

POSITION, WEIGHT = "position", "weight"


class Circumstances(NamedTuple):
    """What an objective may depend on besides parameters and batch."""

    keys: jax.Array
    """One random key per image, [b]."""
    step: jax.Array
    """Updates made so far."""
    frozen: PyTree
    """Arrays that are never trained, the same at every step."""


# (params, batch, circumstances) -> (loss of every image [b], its terms [b] by name).
Objective = Callable[[PyTree, Batch, Circumstances], tuple[jax.Array, Metrics]]


def per_image_keys(key: jax.Array, positions: jax.Array) -> jax.Array:
    """Returns one key per image [b], from its position in the global batch.

    An image gets the same key whether its batch lies on one device or is spread over
    many, so the number of devices changes nothing but the speed.
    """
    return jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)


def make_update(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: ScalarLike,
    schedule: Schedule | None = None,
    num_parts: int = 1,
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
        num_parts: The rows are taken in so many parts, one after the other, which must
            divide their number: gradient accumulation.
        axis_name: Mapped axis the batch is spread over; None when the batch is whole.

    Metrics are scalars: `loss`, its terms, `gradient_norm` before clipping,
    `learning_rate`, and `finite`, which is False when the loss, the gradient or the
    updated parameters hold a NaN or an infinity.
    """

    def sums(
        params: PyTree, batch: Batch, circumstances: Circumstances, weights: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        losses, terms = objective(params, batch, circumstances)
        weighted = {
            name: jnp.sum(weights * values)
            for name, values in {"loss": losses, **terms}.items()
        }
        return weighted["loss"], weighted

    def train_step(
        state: TrainState, batch: Batch, key: jax.Array, frozen: PyTree = None
    ) -> tuple[TrainState, Metrics]:
        batch, positions, weights = _rows(batch, axis_name)
        keys = per_image_keys(jax.random.fold_in(key, state.step), positions)

        def part(rows: tuple[Batch, jax.Array, jax.Array]) -> tuple[PyTree, Metrics]:
            images, keys, weights = rows
            circumstances = Circumstances(keys, state.step, frozen)
            gradients, weighted = jax.grad(sums, has_aux=True)(
                state.params, images, circumstances, weights
            )
            return gradients, weighted

        total = _sum_of_parts(part, (batch, keys, weights), num_parts)
        total = (*total, jnp.sum(weights))
        if axis_name is not None:
            total = jax.lax.psum(total, axis_name)
        *means, num_images = total
        gradients, metrics = jax.tree.map(lambda x: x / num_images, tuple(means))

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(gradients)
        health = jnp.stack([metrics["loss"], norm, optax.tree.norm(params)])
        metrics |= {"gradient_norm": norm, "finite": jnp.all(jnp.isfinite(health))}
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


def _rows(batch: Batch, axis_name: str | None) -> tuple[Batch, jax.Array, jax.Array]:
    """Returns the batch's data, and positions and weights of its rows [b]."""
    images = {
        name: array for name, array in batch.items() if name not in (POSITION, WEIGHT)
    }
    num_rows = jax.tree.leaves(images)[0].shape[0]
    if POSITION in batch:
        return images, batch[POSITION], batch[WEIGHT]
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * num_rows
    return images, first + jnp.arange(num_rows), jnp.ones(num_rows, jnp.float32)


def _sum_of_parts(
    part: Callable[[PyTree], PyTree], rows: PyTree, num_parts: int
) -> PyTree:
    """Returns the sum of what `part` makes of each of `num_parts` of the rows."""
    if num_parts == 1:
        return part(rows)

    # Every num_parts-th row: contiguous parts of an array that is cut over devices
    # would each lie on a few of them only.
    def cut(array: jax.Array) -> jax.Array:
        return array.reshape(-1, num_parts, *array.shape[1:]).swapaxes(0, 1)

    parts = jax.tree.map(cut, rows)
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(part, jax.tree.map(lambda array: array[0], parts)),
    )
    total, _ = jax.lax.scan(
        lambda total, rows: (jax.tree.map(jnp.add, total, part(rows)), None),
        zeros,
        parts,
    )
    return total
