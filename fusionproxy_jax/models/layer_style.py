"""What all layers of a student's encoder have in common."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.typing import DTypeLike

from fusionproxy_jax.models.activation import Activation
from fusionproxy_jax.models.normalization import Normalization


@dataclass(frozen=True, kw_only=True)
class LayerStyle:
    """How every layer of an encoder is computed.

    Attributes:
        normalization: See `models/normalization.py`.
        activation: See `activate`.
        dtype: Computation dtype; parameters are float32.
        grouped: See `depthwise`.
    """

    normalization: Normalization = "layer"
    activation: Activation = "gelu"
    dtype: DTypeLike = jnp.float32
    grouped: bool | None = None
