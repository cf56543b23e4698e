"""What a backbone costs and yields, from shapes alone."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from fusionproxy_jax.panel.backbone import Backbone


@dataclass(frozen=True)
class BackboneDescription:
    """Size of a backbone and of its features of one image.

    Attributes:
        name: Of the backbone.
        parameters: Number of parameters up to the tap.
        grid: Height and width of the features.
        channels: Of the features.
    """

    name: str
    parameters: int
    grid: tuple[int, int]
    channels: int

    @property
    def megabytes(self) -> float:
        """Of one image's features in float16, in 10^6 bytes."""
        return 2 * math.prod(self.grid) * self.channels / 1e6


def describe_backbone(
    backbone: Backbone, *, height: int = 256, width: int = 256
) -> BackboneDescription:
    """Returns the description for images of a size; nothing is computed.

    Leaves of the backbone's parameters need only shape and dtype.
    """
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    features = jax.eval_shape(backbone.apply, backbone.params, image)
    _, *grid, channels = features.shape
    leaves = jax.tree.leaves(backbone.params)
    return BackboneDescription(
        name=backbone.name,
        parameters=sum(math.prod(leaf.shape) for leaf in leaves),
        grid=tuple(grid),
        channels=channels,
    )
