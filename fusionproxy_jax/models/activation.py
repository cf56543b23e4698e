"""The activations a student can be built with."""

from typing import Literal

import jax
from jaxtyping import Array, Float

Activation = Literal["gelu", "relu", "hardswish"]


def activate(x: Float[Array, "..."], name: Activation) -> Float[Array, "..."]:
    """Returns the named activation of `x`; GELU is the exact one.

    The functions are looked up when called: exporters replace them by single nodes.
    """
    match name:
        case "gelu":
            return jax.nn.gelu(x, approximate=False)
        case "relu":
            return jax.nn.relu(x)
        case "hardswish":
            return jax.nn.hard_swish(x)
