"""Normalisation without running state: over channels, or none but scale and bias.

The mobile networks were published with batch normalisation. Its running statistics are
no parameters, which the students' contract `module.apply({"params": p}, ...)` has no
place for, and batch statistics would make a fused image depend on its neighbours. So
both are left out: where they have batch normalisation these students have either

- `affine`: scale and bias per channel. This is what batch normalisation is at
  inference, so that published weights fit (`folded_batch_norm`); the layers multiply
  their kernels by the scale instead of their maps, and it costs nothing.
- `layer`: normalised over the channels of each pixel, then scale and bias.
"""

from typing import Literal

import jax
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Normalization = Literal["layer", "affine"]
Channels = Float[Array, " c"]


class Affine(nn.Module):
    """Scale and bias per channel, given to the neighbouring convolution.

    Attributes:
        initial_scale: Value of the new scale.
    """

    initial_scale: float = 1.0

    @nn.compact
    def __call__(self, channels: int) -> tuple[Channels, Channels]:
        """Returns (scale, bias), float32."""
        scale = self.param(
            "scale", nn.initializers.constant(self.initial_scale), (channels,)
        )
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return scale, bias


def scaled(
    kernel: Float[Array, "kh kw i o"],
    scale: Channels,
    bias: Channels,
    *,
    dtype: DTypeLike,
) -> tuple[Float[Array, "kh kw i o"], Float[Array, "1 1 1 o"]]:
    """Returns a convolution's kernel and bias with the affine layer behind it inside.

    Parameters that are known when the network is traced, as exporters have them, are
    multiplied at once: the exported graph holds the product alone.
    """
    with jax.ensure_compile_time_eval():
        return (
            (kernel * scale.reshape(1, 1, 1, -1)).astype(dtype),
            bias.astype(dtype).reshape(1, 1, 1, -1),
        )


def folded_batch_norm(
    weight: Channels,
    bias: Channels,
    mean: Channels,
    variance: Channels,
    *,
    epsilon: float = 1e-5,
) -> dict[str, Channels]:
    """Returns the scale and bias that a trained batch normalisation is at inference.

    Args:
        weight: Its learned scale.
        bias: Its learned bias; a bias of the convolution before it, which its mean
            would cancel, is subtracted from `mean`.
        mean: Its running mean.
        variance: Its running variance.
        epsilon: Added to the variance; frameworks differ.
    """
    scale = weight * jax.lax.rsqrt(variance + epsilon)
    return {"scale": scale, "bias": bias - mean * scale}
