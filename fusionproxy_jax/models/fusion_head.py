"""Residual fusion head, Eq. 13: channel attention plus both modalities unweighted."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Features = Float[Array, "b h w c"]


class GatedSum(nn.Module):
    """W (a * F_cat) + b + F_IR + F_VIS as one product with F_cat = [F_IR; F_VIS].

    Gating the weights instead of the map, and adding two identities to them for the
    sum, leaves one pass over the map.

    Attributes:
        dtype: Computation dtype; parameters are float32.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, both: Features, attention: Float[Array, "b c"]
    ) -> Float[Array, "b h w _"]:
        """Returns half as many channels as `both` has."""
        channels = both.shape[-1] // 2
        shape = (2 * channels, channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        identities = np.tile(np.eye(channels, dtype=np.float32), (1, 2))
        gate = attention.astype(jnp.float32)[:, None]
        weights = gate * kernel.T[None] + identities[None]
        fused = jnp.einsum(
            "bhwi,boi->bhwo", both.astype(self.dtype), weights.astype(self.dtype)
        )
        return fused + bias.astype(self.dtype).reshape(1, 1, 1, -1)


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
        pooled = jnp.mean(both.astype(jnp.float32), axis=(1, 2))
        hidden = nn.Dense(
            max(2 * channels // self.reduction, 1), dtype=self.dtype, name="squeeze"
        )(pooled)
        hidden = jax.nn.relu(hidden)
        attention = jax.nn.sigmoid(
            nn.Dense(2 * channels, dtype=self.dtype, name="excite")(hidden)
        )
        return GatedSum(dtype=self.dtype, name="project")(both, attention)
