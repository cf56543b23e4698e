"""Residual fusion head, Eq. 13: channel attention plus both modalities unweighted."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Features = Float[Array, "b h w c"]


class FusionHead(nn.Module):
    """F_out = Attn(F_cat) * F_cat + F_IR + F_VIS, with F_cat = [F_IR; F_VIS].

    As printed the shapes disagree (F_cat has twice the channels), so the gated
    concatenation is projected to C channels by a 1x1 convolution before the sum. The
    gate is a sigmoid, not a softmax: one modality never has to lose for the other to
    pass.

    Attributes:
        reduction: Bottleneck of the channel attention.
        dtype: Computation dtype.
    """

    reduction: int = 4
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, infrared: Features, visible: Features) -> Features:
        """Fuses two feature maps of one shape into one of the same shape."""
        channels = infrared.shape[-1]
        both = jnp.concatenate([infrared, visible], axis=-1)
        pooled = jnp.mean(both.astype(jnp.float32), axis=(1, 2), keepdims=True)
        hidden = nn.Dense(
            max(2 * channels // self.reduction, 1), dtype=self.dtype, name="squeeze"
        )(pooled)
        hidden = jax.nn.relu(hidden)
        attention = jax.nn.sigmoid(
            nn.Dense(2 * channels, dtype=self.dtype, name="excite")(hidden)
        )
        gated = nn.Dense(channels, dtype=self.dtype, name="project")(attention * both)
        return gated + infrared + visible
