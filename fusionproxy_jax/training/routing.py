"""The routing a run trains with, and the parameters of one that is learned.

Learned parameters lie beside the student's, under a name no module has, so that one
optimiser moves both and checkpoints hold both; a released student leaves them out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.losses.routing_schedules import annealed
from fusionproxy_jax.losses.routing_variants import (
    Routing,
    learned_routing,
    single_routing,
    uniform_routing,
    variance_routing,
)
from fusionproxy_jax.training.knobs import Knobs
from fusionproxy_jax.training.state import InitParams

PyTree = Any
_KEY = "routing"


def build_routing(
    kind: str, knobs: Knobs, backbones: Sequence[str], *, num_steps: int
) -> Routing:
    """Returns the routing of a configuration over a panel.

    Args:
        kind: `loss.routing`.
        knobs: The temperature, and where it goes.
        backbones: Names in the order k.
        num_steps: Of the run; an annealed temperature arrives at its last one.

    Raises:
        FusionProxyError: `single:` names a backbone the panel has not.
    """
    if kind == "uniform":
        return uniform_routing()
    if kind == "learned":
        return learned_routing()
    if kind == "variance":
        temperature = knobs.routing_temperature
        if knobs.routing_temperature_end is not None:
            temperature = annealed(
                temperature, knobs.routing_temperature_end, num_steps, shape="geometric"
            )
        return variance_routing(temperature)
    name = kind.removeprefix("single:")
    if name not in backbones:
        raise FusionProxyError(
            f"loss.routing is {kind!r}; the panel has {', '.join(backbones)}"
        )
    return single_routing(list(backbones).index(name), len(backbones))


def with_routing(init: InitParams, routing: Routing, num_backbones: int) -> InitParams:
    """Returns key -> first parameters of student and routing."""

    def init_both(key) -> PyTree:
        own = routing.init(key, num_backbones)
        return dict(init(key)) if own is None else {**init(key), _KEY: own}

    return init_both


def split_routing(params: Mapping[str, PyTree]) -> tuple[PyTree, PyTree]:
    """Returns the student's parameters, and the routing's or None."""
    student = {name: value for name, value in params.items() if name != _KEY}
    return student, params.get(_KEY)
