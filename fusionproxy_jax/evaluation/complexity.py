"""Parameters and multiply-adds of a network, counted from what JAX traces.

Counted are convolutions and matrix products, the usual convention: normalisation,
activations, attention gates and interpolation are not. Nothing is computed.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


@dataclass(frozen=True)
class Complexity:
    """What a network costs at one input size.

    Attributes:
        parameters: Number of parameters.
        multiply_adds: Multiplications, each with its addition, for one input.
        by_module: (parameters, multiply-adds) per top-level submodule.
    """

    parameters: int
    multiply_adds: int
    by_module: dict[str, tuple[int, int]]


def _convolution(equation: Any) -> int:
    kernel = equation.invars[1].aval.shape
    spec = equation.params["dimension_numbers"].rhs_spec
    # Kernels hold the input channels of one group only.
    per_output = math.prod(kernel) // kernel[spec[0]]
    # Zeros between the inputs of a transposed convolution cost nothing.
    dilation = math.prod(equation.params["lhs_dilation"] or (1,))
    return math.prod(equation.outvars[0].aval.shape) * per_output // dilation


def _product(equation: Any) -> int:
    left = equation.invars[0].aval.shape
    (contracted, _), _ = equation.params["dimension_numbers"]
    summed = math.prod(left[axis] for axis in contracted)
    return math.prod(equation.outvars[0].aval.shape) * summed


_COUNTED = {"conv_general_dilated": _convolution, "dot_general": _product}


def inner_jaxprs(equation: Any) -> Iterator[Any]:
    """Yields the jaxprs an equation calls."""
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            jaxpr = getattr(item, "jaxpr", item)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr


def _count(jaxpr: Any, scope: str) -> Counter[str]:
    """Returns multiply-adds by `/`-joined name scope."""
    total: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        here = f"{scope}/{equation.source_info.name_stack}"
        name = equation.primitive.name
        if name in _COUNTED:
            total[here] += _COUNTED[name](equation)
            continue
        counts = [_count(inner, here) for inner in inner_jaxprs(equation)]
        if name == "while" and any(count.total() for count in counts):
            raise NotImplementedError(
                "a while loop of unknown length holds counted operations"
            )
        if name == "cond":
            counts = [max(counts, key=Counter.total)]
        repeats = equation.params["length"] if name == "scan" else 1
        for count in counts:
            for key, value in count.items():
                total[key] += repeats * value
    return total


def multiply_adds(function: Callable[..., Any], *arguments: Any) -> int:
    """Returns the multiply-adds of `function`; arguments need only shape and dtype.

    A loop counts as often as it runs, of a branch the dearer side.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, "").total()


def pair_shapes(
    height: int, width: int, *, batch_size: int = 1
) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Returns shape and dtype of a visible and an infrared image."""
    return tuple(
        jax.ShapeDtypeStruct((batch_size, height, width, channels), jnp.float32)
        for channels in (3, 1)
    )


def parameter_shapes(module: nn.Module, *inputs: Any) -> Any:
    """Returns the parameter tree of `module`, shapes only."""
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]


def complexity(module: nn.Module, *inputs: Any) -> Complexity:
    """Returns what `module` costs on `inputs`, which need only shape and dtype."""
    params = parameter_shapes(module, *inputs)
    sizes = {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(branch))
        for name, branch in params.items()
    }
    traced = jax.make_jaxpr(module.apply)({"params": params}, *inputs)
    counts: Counter[str] = Counter()
    for scope, value in _count(traced.jaxpr, "").items():
        # Flax opens one name scope per module; the outermost is the network's own.
        names = [name for name in scope.split("/") if name in params]
        counts[names[0] if names else ""] += value
    return Complexity(
        parameters=sum(sizes.values()),
        multiply_adds=counts.total(),
        by_module={name: (size, counts[name]) for name, size in sizes.items()},
    )
