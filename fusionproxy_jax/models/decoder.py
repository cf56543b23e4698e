"""U-Net decoder: from the coarsest fused features to full-resolution RGB."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fusionproxy_jax.models import resampling
from fusionproxy_jax.models.activation import Activation, activate
from fusionproxy_jax.models.depthwise import DepthwiseConv
from fusionproxy_jax.models.output import NUM_MAPS, Output

Features = Float[Array, "b _ _ _"]


class SeparableMerge(nn.Module):
    """3x3 convolution of joined features, as depthwise and 1x1 convolution.

    Attributes:
        features: Output channels.
        dtype: Computation dtype.
        grouped: See `depthwise`.
    """

    features: int
    dtype: DTypeLike = jnp.float32
    grouped: bool | None = None

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Returns the new features."""
        x = DepthwiseConv(3, dtype=self.dtype, grouped=self.grouped, name="depthwise")(
            x
        )
        return nn.Dense(self.features, dtype=self.dtype, name="pointwise")(x)


class Decoder(nn.Module):
    """Upsamples, joins the fused features of the next finer scale, convolves.

    The last stage works at the finest scale and predicts all pixels of a cell at once.
    Its kernel starts at zero, so an untrained student returns the visible image.

    Attributes:
        cell: Edge length in pixels of what one place of the finest features covers.
        output: What is predicted per pixel, see `models/output.py`.
        join: Whether features are stacked with or added to those of the finer scale.
        separable: Makes the convolutions of joined features depthwise-separable.
        activation: See `activate`.
        dtype: Computation dtype.
        grouped: See `depthwise`.
        upsample: Doubles the size of a map.
        depth_to_space: Turns `cell**2` channels into one at full size.
    """

    cell: int = 2
    output: Output = "rgb"
    join: Literal["concatenate", "add"] = "concatenate"
    separable: bool = False
    activation: Activation = "gelu"
    dtype: DTypeLike = jnp.float32
    grouped: bool | None = None
    upsample: Callable[[jax.Array], jax.Array] = resampling.upsample
    depth_to_space: Callable[[jax.Array, int], jax.Array] = resampling.depth_to_space

    @nn.compact
    def __call__(self, features: Sequence[Features]) -> Float[Array, "b _ _ _"]:
        """Returns the output's maps at `cell` times the size of the first features."""
        x = features[-1]
        for level in range(len(features) - 2, -1, -1):
            skip = features[level]
            x = nn.Dense(skip.shape[-1], dtype=self.dtype, name=f"reduce{level}")(x)
            x = self.upsample(x)
            if self.join == "add":
                x = x + skip
            else:
                x = jnp.concatenate([x, skip], axis=-1)
            x = self._merge(skip.shape[-1], f"merge{level}")(x)
            x = activate(x, self.activation)
        x = nn.Conv(
            NUM_MAPS[self.output] * self.cell**2,
            (3, 3),
            padding=((1, 1), (1, 1)),
            dtype=self.dtype,
            kernel_init=nn.initializers.zeros,
            name=f"to_{self.output}",
        )(x)
        return self.depth_to_space(x, self.cell)

    def _merge(self, features: int, name: str) -> nn.Module:
        if self.separable:
            return SeparableMerge(
                features, dtype=self.dtype, grouped=self.grouped, name=name
            )
        return nn.Conv(
            features,
            (3, 3),
            padding=((1, 1), (1, 1)),
            dtype=self.dtype,
            name=name,
        )
