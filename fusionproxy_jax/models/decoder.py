"""U-Net decoder: from the coarsest fused features to full-resolution RGB."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fusionproxy_jax.models import resampling


class Decoder(nn.Module):
    """Upsamples, joins the fused features of the next finer scale, convolves.

    The last stage works at 1/2 and predicts the four pixels of each 2x2 cell at once.
    Its kernel starts at zero, so an untrained student returns the visible image.

    Attributes:
        dtype: Computation dtype.
        upsample: Doubles the size of a map.
        depth_to_space: Turns 12 channels at 1/2 into RGB at full size.
    """

    dtype: DTypeLike = jnp.float32
    upsample: Callable[[jax.Array], jax.Array] = resampling.upsample
    depth_to_space: Callable[[jax.Array], jax.Array] = resampling.depth_to_space

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]]
    ) -> Float[Array, "b _ _ 3"]:
        """Returns an RGB residual at twice the size of the first, finest features."""
        x = features[-1]
        for level in range(len(features) - 2, -1, -1):
            skip = features[level]
            x = nn.Dense(skip.shape[-1], dtype=self.dtype, name=f"reduce{level}")(x)
            x = jnp.concatenate([self.upsample(x), skip], axis=-1)
            x = nn.Conv(
                skip.shape[-1],
                (3, 3),
                padding=((1, 1), (1, 1)),
                dtype=self.dtype,
                name=f"merge{level}",
            )(x)
            x = jax.nn.gelu(x, approximate=False)
        x = nn.Conv(
            12,
            (3, 3),
            padding=((1, 1), (1, 1)),
            dtype=self.dtype,
            kernel_init=nn.initializers.zeros,
            name="to_rgb",
        )(x)
        return self.depth_to_space(x)
