"""Routing laboratory: Eq. 8 and its rivals (Table 4, block B) as one kind of function.

A `Routing` is pure: it maps what the teachers' samples say, the step and its own
parameters to weights [b, k, h, w] that sum to one over the k backbones. Teacher
statistics are constants to it, parameters are not. Routings compose (`mixture`), and
numbers in them may be traced, so a sweep over temperatures is one `jax.vmap`:

    jax.vmap(lambda t: variance_routing(t)(variance, mean_variance))(temperatures)

Parameters that route by gradient descent on Eq. 10 alone find the backbone that is
easiest to match, not the most useful one: the gradient of a logit is W_k (L_k - L) with
L = sum_k W_k L_k, so weight flows to the smallest distance until one backbone has it
all. The paper names learned weights as a baseline, row (f), and no remedy; there is
none here. `mixture(uniform_routing(), learned_routing(), 0.5)` bounds how far it goes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, PRNGKeyArray, ScalarLike

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.losses.routing import informativeness, routing_weights
from fusionproxy_jax.losses.routing_schedules import Schedule, Value, as_schedule

PyTree = Any


@dataclass(frozen=True)
class Routing:
    """A way to weight backbones; call it like its `apply`, with step 0 by default."""

    apply: Callable[[Array, Array, ScalarLike, PyTree], Array]
    """(variance [b, k, h, w], mean variance [k], step, params) to weights."""
    init: Callable[[PRNGKeyArray, int], PyTree] = lambda key, num_backbones: None
    """(key, k) to first parameters; None where there is nothing to learn."""

    def __call__(
        self,
        feature_variance: Float[Array, "b k h w"],
        mean_feature_variance: Float[Array, " k"],
        step: ScalarLike = 0,
        params: PyTree = None,
    ) -> Float32[Array, "b k h w"]:
        """Returns weights that sum to one over k; no gradient reaches a variance."""
        variances = jax.lax.stop_gradient((feature_variance, mean_feature_variance))
        return self.apply(*variances, step, params)


def variance_routing(temperature: Schedule | Value = 1.0) -> Routing:
    """Eq. 8, row (h); the temperature may follow the step, see `routing_weights`."""
    temperature = as_schedule(temperature)

    def apply(variance, mean_variance, step, params):
        return routing_weights(variance, mean_variance, temperature=temperature(step))

    return Routing(apply)


def uniform_routing() -> Routing:
    """The same weight for every backbone everywhere, row (e)."""

    def apply(variance, mean_variance, step, params):
        return jnp.full(variance.shape, 1.0 / variance.shape[1], jnp.float32)

    return Routing(apply)


def single_routing(index: int, num_backbones: int) -> Routing:
    """All weight on one backbone; row (d) where that is VGG.

    Raises:
        FusionProxyError: there is no backbone `index`.
    """
    if not 0 <= index < num_backbones:
        raise FusionProxyError(
            f"backbone {index} of a panel of {num_backbones} is asked for; the first "
            "is 0"
        )
    weights = jax.nn.one_hot(index, num_backbones, dtype=jnp.float32)
    return Routing(lambda variance, *_: _everywhere(weights, variance))


def learned_routing() -> Routing:
    """One learned weight a backbone, the same everywhere, row (f): softmax of logits.

    Params are {"logits": [k]}, zeros at first: uniform weighting. Nothing keeps them
    from the easiest backbone, see the module.
    """
    return Routing(
        apply=lambda variance, mean_variance, step, params: _everywhere(
            jax.nn.softmax(params["logits"].astype(jnp.float32)), variance
        ),
        init=lambda key, num_backbones: {"logits": jnp.zeros(num_backbones)},
    )


def per_pixel_learned_routing(width: int = 8) -> Routing:
    """Weights learned from the informativeness of all backbones at the pixel.

    A perceptron of one hidden layer of `width` units reads log v~ of Eq. 8 and gives
    logits: it may come close to that equation at any temperature, or find that one
    backbone's reaction says which other to trust. Its last layer starts at zero, which
    is uniform weighting.
    """

    def init(key: PRNGKeyArray, num_backbones: int) -> PyTree:
        kernel = jax.random.normal(key, (num_backbones, width)) / num_backbones**0.5
        return {
            "hidden": {"kernel": kernel, "bias": jnp.zeros(width)},
            "out": {
                "kernel": jnp.zeros((width, num_backbones)),
                "bias": jnp.zeros(num_backbones),
            },
        }

    def apply(variance, mean_variance, step, params):
        # A variance of zero is as little as a thousandth of the usual one.
        scores = jnp.log(informativeness(variance, mean_variance) + 1e-3)
        hidden = jax.nn.gelu(_dense(params["hidden"], scores), approximate=True)
        return jax.nn.softmax(_dense(params["out"], hidden), axis=1)

    return Routing(apply, init)


def mixture(first: Routing, second: Routing, share: Schedule | Value) -> Routing:
    """Weighted mean of two routings: `share` in [0, 1] of the second, the rest first.

    Params are {"first": ..., "second": ...}.

    Raises:
        FusionProxyError: the share, if it is a plain number, is outside [0, 1].
    """
    if isinstance(share, int | float) and not 0 <= share <= 1:
        raise FusionProxyError(
            f"the share of a mixture's second routing is {share}; it must be in [0, 1]"
        )
    share = as_schedule(share)

    def init(key: PRNGKeyArray, num_backbones: int) -> PyTree:
        first_key, second_key = jax.random.split(key)
        return {
            "first": first.init(first_key, num_backbones),
            "second": second.init(second_key, num_backbones),
        }

    def apply(variance, mean_variance, step, params):
        params = params or {"first": None, "second": None}
        one = first(variance, mean_variance, step, params["first"])
        other = second(variance, mean_variance, step, params["second"])
        return (1.0 - share(step)) * one + share(step) * other

    return Routing(apply, init)


def _everywhere(
    weights: Float32[Array, " k"], variance: Float[Array, "b k h w"]
) -> Float32[Array, "b k h w"]:
    return jnp.broadcast_to(weights[None, :, None, None], variance.shape)


def _dense(
    layer: dict[str, Array], x: Float32[Array, "b _ h w"]
) -> Float32[Array, "b _ h w"]:
    """One layer over axis 1, the same at every pixel."""
    product = jnp.einsum("ij,bihw->bjhw", layer["kernel"], x)
    return product + layer["bias"][None, :, None, None]
