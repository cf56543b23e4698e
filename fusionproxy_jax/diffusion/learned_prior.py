"""A prior that is a network: its parameters, and what they belong to.

Like `gaussian_prior.GaussianPrior` it offers `denoiser`, `channels` and `stride`, which
is all that a sampler asks of a prior.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fusionproxy_jax.config.networks import UNetConfig
from fusionproxy_jax.diffusion.ddim import Denoise
from fusionproxy_jax.diffusion.parameterization import to_clean
from fusionproxy_jax.diffusion.unet import UNet


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearnedPrior:
    """A UNet with its parameters; a pytree whose only leaves are those."""

    params: Any
    config: UNetConfig = field(metadata={"static": True})
    # Computation dtype, by name.
    dtype: str = field(default="float32", metadata={"static": True})

    @property
    def channels(self) -> int:
        """Channels of an image; 1 is luminance."""
        return self.config.in_channels

    @property
    def stride(self) -> int:
        """Image sides must be multiples of this."""
        return self.config.stride

    def denoiser(self, height: int, width: int) -> Denoise:
        """Returns denoise(noisy, index, signal) -> clean estimate in float32.

        States are [n, height, width, channels], or [n, height, width] of a luminance
        prior; index and signal are one number each. An output of twice the channels
        also predicts a variance, which is dropped.
        """
        network = UNet(self.config, dtype=jnp.dtype(self.dtype))

        def denoise(noisy: Array, index: Array, signal: Array) -> Array:
            images = noisy.reshape(-1, height, width, self.channels)
            indices = jnp.broadcast_to(index, images.shape[:1])
            output = network.apply({"params": self.params}, images, indices)
            output = output[..., : self.channels].astype(jnp.float32)
            clean = to_clean(output, images, signal, self.config.prediction)
            return clean.reshape(noisy.shape)

        return denoise
