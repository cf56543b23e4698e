"""The unconditional UNet of guided diffusion, "ADM" (Dhariwal & Nichol 2021).

Images are in [-1, 1]. With `patch_px` above 1 the same network works on squares of
pixels, which makes the compact priors.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from fusionproxy_jax.config.networks import UNetConfig
from fusionproxy_jax.diffusion.patches import depth_to_space, space_to_depth
from fusionproxy_jax.diffusion.time_embedding import timestep_embedding
from fusionproxy_jax.diffusion.unet_blocks import (
    AttentionBlock,
    GroupNorm,
    ResidualBlock,
    conv3x3,
)
from fusionproxy_jax.diffusion.unet_layout import Part, unet_layout
from fusionproxy_jax.errors import FusionProxyError


class UNet(nn.Module):
    """Predicts noise, clean image or velocity from a noisy image and its level.

    Attributes:
        config: Widths, depth and what the prediction means.
        dtype: Computation dtype; parameters are float32.
    """

    config: UNetConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, noisy: Float[Array, "b h w c"], index: Int[Array, " b"]
    ) -> Float[Array, "b h w o"]:
        """Returns the prediction, in `dtype`; zero for a new network.

        Args:
            noisy: Noisy images; sides are multiples of `config.stride`.
            index: Their levels in the training schedule, 0 to 999.

        Raises:
            FusionProxyError: The image does not fit the network.
        """
        config = self.config
        _check_shape(noisy.shape, config)
        layout = unet_layout(config)

        embedding = timestep_embedding(index, config.base_width)
        for position in (0, 2):
            if position:
                embedding = nn.silu(embedding)
            embedding = nn.Dense(
                4 * config.base_width, dtype=self.dtype, name=f"time_embed_{position}"
            )(embedding)

        x = space_to_depth(noisy.astype(self.dtype), config.patch_px)
        kept = []
        for block in layout.encoder:
            for part in block:
                x = self._apply(part, x, embedding)
            kept.append(x)
        for part in layout.middle:
            x = self._apply(part, x, embedding)
        for block in layout.decoder:
            x = jnp.concatenate([x, kept.pop()], axis=-1)
            for part in block:
                x = self._apply(part, x, embedding)

        x = nn.silu(GroupNorm(config.num_groups, name="out_0")(x))
        out_width = config.out_channels * config.patch_px**2
        x = conv3x3(out_width, self.dtype, zero=True, name="out_2")(x)
        return depth_to_space(x, config.patch_px)

    def _apply(
        self, part: Part, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"]
    ) -> Float[Array, "b h_out w_out c_out"]:
        """Builds one part of the layout and runs it."""
        groups = self.config.num_groups
        if part.kind == "conv":
            return conv3x3(part.out_width, self.dtype, name=part.name)(x)
        if part.kind == "attention":
            return AttentionBlock(
                self.config.head_width, groups, self.dtype, name=part.name
            )(x)
        return ResidualBlock(
            part.out_width, groups, part.resample, self.dtype, name=part.name
        )(x, embedding)


def _check_shape(shape: tuple[int, ...], config: UNetConfig) -> None:
    """Refuses an image that the levels do not divide."""
    _, height, width, channels = shape
    if height % config.stride or width % config.stride:
        raise FusionProxyError(
            f"the image is {height}x{width}; this network needs multiples of "
            f"{config.stride}: pad or crop it"
        )
    if channels != config.in_channels:
        raise FusionProxyError(
            f"the image has {channels} channels; this network takes "
            f"{config.in_channels}"
        )
