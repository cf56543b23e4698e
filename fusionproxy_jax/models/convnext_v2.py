"""ConvNeXt V2 encoder (Woo et al. 2023): blocks with global response normalisation.

Two differences from the published network, both for dense prediction on small
machines: the stem halves the size (a feature map at 1/2 feeds the decoder), and the
global response is a root mean square.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fusionproxy_jax.models.depthwise import DepthwiseConv

Features = Float[Array, "b h w c"]


class GlobalResponseNorm(nn.Module):
    """Scales each channel by its share of the global response, with a residual.

    The published form takes the root of the sum of squares, which overflows float16 on
    a 480x640 image; the root mean square gives the same function (the response enters
    only as a ratio), and its epsilon stands inside the root, so a zero map has a finite
    gradient. The reduction is done in float32.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Returns `x + scale * (x * response) + bias`; a new layer is the identity."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.zeros, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        squares = jnp.square(x.astype(jnp.float32))
        response = jnp.sqrt(
            jnp.mean(squares, axis=(1, 2), keepdims=True) + self.epsilon
        )
        share = response / jnp.mean(response, axis=-1, keepdims=True)
        # One multiply and one add over the full map instead of three.
        gain = 1.0 + scale.reshape(1, 1, 1, -1) * share
        return x * gain.astype(x.dtype) + bias.astype(x.dtype).reshape(1, 1, 1, -1)


class ConvNextV2Block(nn.Module):
    """7x7 depthwise, LayerNorm, 4x expansion, GELU, GRN, projection, residual."""

    dtype: DTypeLike = jnp.float32
    grouped: bool | None = None
    expansion: int = 4

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Refines `x`, keeping its shape."""
        channels = x.shape[-1]
        y = DepthwiseConv(dtype=self.dtype, grouped=self.grouped, name="dwconv")(x)
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(y)
        y = nn.Dense(self.expansion * channels, dtype=self.dtype, name="pwconv1")(y)
        y = jax.nn.gelu(y, approximate=False)
        y = GlobalResponseNorm(name="grn")(y)
        y = nn.Dense(channels, dtype=self.dtype, name="pwconv2")(y)
        return x + y


class ConvNextV2Encoder(nn.Module):
    """Features at 1/2, 1/4, 1/8, ... of the input size.

    Attributes:
        stem_width: Channels at 1/2.
        widths: Channels of the stages at 1/4, 1/8, ...
        depths: Blocks of those stages.
        dtype: Computation dtype.
        grouped: See `DepthwiseConv`.
    """

    stem_width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    dtype: DTypeLike = jnp.float32
    grouped: bool | None = None

    @nn.compact
    def __call__(self, image: Features) -> list[Float[Array, "b _ _ _"]]:
        """Returns one feature map per scale, finest first."""
        x = nn.Conv(
            self.stem_width,
            (4, 4),
            strides=(2, 2),
            padding=((1, 1), (1, 1)),
            dtype=self.dtype,
            name="stem",
        )(image.astype(self.dtype))
        features = [x]
        for stage, (width, depth) in enumerate(
            zip(self.widths, self.depths, strict=True)
        ):
            x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=f"norm{stage}")(x)
            x = nn.Conv(
                width,
                (2, 2),
                strides=(2, 2),
                padding="VALID",
                dtype=self.dtype,
                name=f"downsample{stage}",
            )(x)
            for index in range(depth):
                x = ConvNextV2Block(
                    dtype=self.dtype,
                    grouped=self.grouped,
                    name=f"stage{stage}_block{index}",
                )(x)
            features.append(x)
        return features
