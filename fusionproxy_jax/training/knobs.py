"""Numbers of a run that its compiled step may take as arrays.

A step closes over plain numbers in a run of its own; in a population they are traced,
one of each a member, and everything else is the same for all members.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import ScalarLike

from fusionproxy_jax.config import Config
from fusionproxy_jax.config.identity import flat_settings

# Dotted name in `Config` -> name here. The seed is the one that is no number of the
# step: it makes the keys.
_FIELDS = MappingProxyType(
    {
        f"{part}.{name}": name
        for part, names in (
            (
                "loss",
                (
                    "pixel_weight",
                    "alignment_weight",
                    "structure_weight",
                    "epsilon",
                    "routing_temperature",
                    "routing_temperature_end",
                ),
            ),
            (
                "optimizer",
                ("learning_rate", "weight_decay", "gradient_clip", "ema_decay"),
            ),
            ("misalignment", ("translation_px", "rotation_deg", "probability")),
        )
        for name in names
    }
)
TRACED = frozenset({"seed", *_FIELDS})


@struct.dataclass
class Knobs:
    """Scalars, or tracers of them; see the fields of `Config` of the same names.

    `learning_rate` is the peak for the run's batch. `routing_temperature_end` is None
    where the temperature stays.
    """

    pixel_weight: ScalarLike
    alignment_weight: ScalarLike
    structure_weight: ScalarLike
    epsilon: ScalarLike
    routing_temperature: ScalarLike
    routing_temperature_end: ScalarLike | None
    learning_rate: ScalarLike
    weight_decay: ScalarLike
    gradient_clip: ScalarLike
    ema_decay: ScalarLike
    translation_px: ScalarLike
    rotation_deg: ScalarLike
    probability: ScalarLike

    @classmethod
    def of(cls, config: Any) -> "Knobs":
        """Returns those of a `Config`, as plain numbers."""
        values = {
            field: _at(config, dotted)
            for dotted, field in _FIELDS.items()
            if dotted != "optimizer.learning_rate"
        }
        return cls(learning_rate=peak_learning_rate(config), **values)


def peak_learning_rate(config: Any) -> float:
    """Returns the peak for the run's batch, of a `Config` or a teacher's.

    `optimizer.batch_scaling` says how it follows from that of the reference batch.
    """
    optimizer = config.optimizer
    ratio = config.data.batch_size / optimizer.reference_batch_size
    factors = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}
    return optimizer.learning_rate * factors[optimizer.batch_scaling]


def stack_knobs(members: Mapping[str, Config]) -> Knobs:
    """Returns float32 arrays [m] of the members' knobs, in their order."""
    return jax.tree.map(
        lambda *values: jnp.asarray(values, jnp.float32),
        *map(Knobs.of, members.values()),
    )


def static_settings(config: Config) -> dict[str, Any]:
    """Returns dotted name -> value of what one compiled program has one of.

    Everything that is not `TRACED`, and of that what changes the program's structure:
    whether there is an alignment term, and whether the temperature moves.
    """
    settings = {
        name: value
        for name, value in flat_settings(dataclasses.asdict(config)).items()
        if name not in TRACED
    }
    loss = config.loss
    settings["loss.alignment_weight > 0"] = loss.alignment_weight > 0
    settings["loss.routing_temperature moves"] = (
        loss.routing_temperature_end is not None
    )
    return settings


def _at(config: Any, dotted: str) -> Any:
    part, _, name = dotted.partition(".")
    return getattr(getattr(config, part), name)
