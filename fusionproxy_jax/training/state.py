"""What a run carries from step to step, and the optimiser that moves it.

The paper names no optimiser; ours is AdamW under a linear warm-up and a cosine decay
to zero, with the gradient clipped by its global norm, and an average of the weights
that is what a run hands over in the end.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jaxtyping import ScalarLike

from fusionproxy_jax.errors import FusionProxyError

PyTree = Any
Schedule = Callable[[jax.Array], jax.Array]
InitParams = Callable[[jax.Array], PyTree]

_MOMENTUM = 0.9


@struct.dataclass
class TrainState:
    """One pytree; everything a resumed run needs besides the data iterator.

    Attributes:
        step: Updates made so far, int32.
        params: Parameters of the network, float32.
        ema_params: Their moving average; the network that is released.
        opt_state: State of the optax transformation.
    """

    step: jax.Array
    params: PyTree
    ema_params: PyTree
    opt_state: optax.OptState


def learning_rate_schedule(
    peak: ScalarLike, *, warmup_steps: int, num_steps: int
) -> Schedule:
    """Returns step -> rate: linear to `peak` at `warmup_steps`, cosine to 0 at the end.

    The first update (step 0) already moves: its rate is peak / (warmup_steps + 1).

    Raises:
        FusionProxyError: The warm-up would not end before the run does.
    """
    if not 0 <= warmup_steps < num_steps:
        raise FusionProxyError(
            f"optimizer.warmup_steps is {warmup_steps}; it must be at least 0 and less "
            f"than num_steps {num_steps}"
        )

    def rate(step: jax.Array) -> jax.Array:
        rising = (step + 1) / (warmup_steps + 1)
        progress = (step - warmup_steps) / (num_steps - warmup_steps)
        falling = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))
        return peak * jnp.where(step < warmup_steps, rising, falling)

    return rate


def decay_mask(params: PyTree) -> PyTree:
    """Returns True for the leaves weight decay acts on: kernels, and nothing else.

    Norm scales, biases and the two vectors of GRN rest at values that are not zero or
    have no scale to regularise.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) == "kernel", params
    )


def build_optimizer(
    method: Literal["adamw", "sgd"],
    *,
    learning_rate: ScalarLike,
    warmup_steps: int,
    num_steps: int,
    weight_decay: ScalarLike,
    gradient_clip: ScalarLike,
) -> tuple[optax.GradientTransformation, Schedule]:
    """Returns the optimiser with clipping, and its learning rate by the step.

    Args:
        method: AdamW, or SGD with momentum.
        learning_rate: The peak; may be traced, as may decay and clip.
        warmup_steps: See `learning_rate_schedule`.
        num_steps: Of the run.
        weight_decay: On kernels, see `decay_mask`.
        gradient_clip: Largest global norm of the gradient.
    """
    schedule = learning_rate_schedule(
        learning_rate, warmup_steps=warmup_steps, num_steps=num_steps
    )
    if method == "adamw":
        move = optax.adamw(schedule, weight_decay=weight_decay, mask=decay_mask)
    else:
        move = optax.chain(
            optax.add_decayed_weights(weight_decay, mask=decay_mask),
            optax.sgd(schedule, momentum=_MOMENTUM),
        )
    return optax.chain(optax.clip_by_global_norm(gradient_clip), move), schedule


def moments_and_average(state: TrainState) -> TrainState:
    """Returns the state's structure of booleans: what may be cut over devices.

    True for optimiser state and weight average: a device that updates a part of the
    parameters needs no more than that part of them.
    """
    return TrainState(
        step=False,
        params=jax.tree.map(lambda _: False, state.params),
        ema_params=jax.tree.map(lambda _: True, state.ema_params),
        opt_state=jax.tree.map(lambda _: True, state.opt_state),
    )


def ema_decay_at(step: jax.Array, decay: float) -> jax.Array:
    """Returns min(decay, (1 + t) / (10 + t)) for the t-th update.

    The ramp forgets the random initialisation: after 100 updates at a constant 0.999
    the average would still be nine tenths initial weights.
    """
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def update_ema(
    ema_params: PyTree, params: PyTree, *, step: jax.Array, decay: float
) -> PyTree:
    """Returns the average after the update number `step` (from 0) gave `params`."""
    kept = ema_decay_at(step, decay)
    return jax.tree.map(
        lambda average, new: average + (1.0 - kept) * (new - average),
        ema_params,
        params,
    )


def new_state(
    init_params: InitParams, optimizer: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """Returns the state before the first update."""
    return jax.tree.map(
        lambda leaf: leaf[0], new_states(init_params, optimizer, key[None])
    )


def new_states(
    init_params: InitParams, optimizer: optax.GradientTransformation, keys: jax.Array
) -> TrainState:
    """Returns the states [m, ...] before the first update, one for each key [m]."""
    # Dozens of small random draws, run once: on CPU, optimising their code takes five
    # times as long as all the rest.
    on_cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    initialise = functools.partial(_initialise, init_params, optimizer)
    initialise_all = functools.partial(jax.lax.map, initialise)
    return jax.jit(initialise_all, compiler_options=options)(keys)


def state_shapes_of(
    init_params: InitParams, optimizer: optax.GradientTransformation
) -> TrainState:
    """Returns the state's structure with shapes and types; nothing is computed."""
    initialise = functools.partial(_initialise, init_params, optimizer)
    return jax.eval_shape(initialise, jax.random.key(0))


def empty_state_of(
    init_params: InitParams, optimizer: optax.GradientTransformation
) -> TrainState:
    """Returns NumPy zeros of the state's structure, to restore a checkpoint into."""
    shapes = state_shapes_of(init_params, optimizer)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def _initialise(
    init_params: InitParams, optimizer: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    params = init_params(key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy: the step donates its state, and no buffer may be donated twice.
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
    )


def student_params(module: nn.Module) -> InitParams:
    """Returns key -> first parameters of a student."""
    # Parameters do not depend on the image size: a small square will do.
    side = 2 * module.stride
    pair = jnp.zeros((1, side, side, 3)), jnp.zeros((1, side, side, 1))
    return lambda key: module.init(key, *pair)["params"]


def init_state(
    module: nn.Module, optimizer: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """Returns a student's state before the first update."""
    return new_state(student_params(module), optimizer, key)


def empty_state(
    module: nn.Module, optimizer: optax.GradientTransformation
) -> TrainState:
    """Returns NumPy zeros of a student's state."""
    return empty_state_of(student_params(module), optimizer)
