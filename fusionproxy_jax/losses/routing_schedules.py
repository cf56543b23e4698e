"""Numbers that change during training, for the temperature of Eq. 8 and for shares.

A schedule is a pure function of the step. All numbers, and the step, may be traced
arrays, so that a sweep over schedules is one `jax.vmap`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, ScalarLike

from fusionproxy_jax.errors import FusionProxyError

Value = ScalarLike | Float[Array, "..."]
Schedule = Callable[[ScalarLike], Float32[Array, "..."]]


def constant(value: Value) -> Schedule:
    """Returns the schedule that is `value` at every step."""
    return lambda step: jnp.asarray(value, jnp.float32)


def annealed(
    start: Value,
    end: Value,
    num_steps: ScalarLike,
    *,
    shape: Literal["cosine", "linear", "geometric"] = "cosine",
) -> Schedule:
    """Returns the schedule from `start` at step 0 to `end` at `num_steps` and after.

    Args:
        start: finite; > 0 if geometric.
        end: finite; > 0 if geometric, which has the ratio, not the difference, of
            consecutive steps constant.
        num_steps: >= 1.
        shape: of the way; "cosine" leaves and arrives with slope zero.

    Raises:
        FusionProxyError: a number, if it is not traced, outside its range.
    """
    for name, value in (("start", start), ("end", end)):
        if not isinstance(value, int | float):
            continue
        if not math.isfinite(value) or (shape == "geometric" and value <= 0):
            allowed = "finite and > 0" if shape == "geometric" else "finite"
            raise FusionProxyError(
                f"{name} of a {shape} schedule is {value}; it must be {allowed}"
            )
    if isinstance(num_steps, int | float) and num_steps < 1:
        raise FusionProxyError(
            f"num_steps of a schedule is {num_steps}; it must be at least 1"
        )

    def value_at(step: ScalarLike) -> Float32[Array, "..."]:
        first, last, total, now = (
            jnp.asarray(number, jnp.float32) for number in (start, end, num_steps, step)
        )
        gone = jnp.clip(now / total, 0.0, 1.0)
        if shape == "geometric":
            return first ** (1.0 - gone) * last**gone
        if shape == "cosine":
            gone = 0.5 * (1.0 - jnp.cos(jnp.pi * gone))
        return (1.0 - gone) * first + gone * last

    return value_at


def per_backbone(schedules: Sequence[Schedule | Value]) -> Schedule:
    """Returns the schedule of vectors [k] with one schedule, or number, a backbone."""
    each = [as_schedule(schedule) for schedule in schedules]
    return lambda step: jnp.stack([schedule(step) for schedule in each])


def as_schedule(value: Schedule | Value) -> Schedule:
    """Returns a schedule as it is, and a number as the constant schedule."""
    return value if callable(value) else constant(value)
