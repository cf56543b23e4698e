"""ConvNeXt V2 encoder (Woo et al. 2023): blocks with global response normalisation.

Two differences from the published network, both for dense prediction on small
machines: the stem may halve the size only (a feature map at 1/2 feeds the decoder) and
has no norm or blocks behind it, and the global response is a root mean square.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fusionproxy_jax.models.activation import activate
from fusionproxy_jax.models.depthwise import DepthwiseConv
from fusionproxy_jax.models.layer_style import LayerStyle
from fusionproxy_jax.models.normalization import Affine

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


class Downsample(nn.Module):
    """2x2 convolution of stride 2 with the affine layer before it in its weights.

    Parameters are those of `nn.Conv`.

    Attributes:
        features: Output channels.
        dtype: Computation dtype.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Features, scale: Float[Array, " c"], shift: Float[Array, " c"]
    ) -> Float[Array, "b _ _ _"]:
        """Returns the convolution of `x * scale + shift`."""
        shape = (2, 2, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        # Exact: there are no borders that the shift would have to be kept from. At once
        # where the parameters are known: exported graphs hold the product.
        with jax.ensure_compile_time_eval():
            bias = bias + jnp.sum(kernel * shift.reshape(1, 1, -1, 1), axis=(0, 1, 2))
            kernel = kernel * scale.reshape(1, 1, -1, 1)
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            window_strides=(2, 2),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class ConvNextV2Block(nn.Module):
    """Depthwise, normalisation, expansion, activation, GRN, projection, residual.

    As published with the defaults: 7x7 kernels, LayerNorm, four times the width, GELU.

    Attributes:
        style: See `LayerStyle`.
        expansion: Width of the middle, in widths of the block.
        kernel_size: Odd edge length of the depthwise convolution.
        response_norm: Whether there is a GRN.
    """

    style: LayerStyle = LayerStyle()
    expansion: int = 4
    kernel_size: int = 7
    response_norm: bool = True

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Refines `x`, keeping its shape."""
        channels, style = x.shape[-1], self.style
        depthwise = DepthwiseConv(
            self.kernel_size, dtype=style.dtype, grouped=style.grouped, name="dwconv"
        )
        if style.normalization == "affine":
            y = depthwise(x, Affine(name="norm")(channels))
        else:
            y = nn.LayerNorm(epsilon=1e-6, dtype=style.dtype, name="norm")(depthwise(x))
        y = nn.Dense(self.expansion * channels, dtype=style.dtype, name="pwconv1")(y)
        y = activate(y, style.activation)
        if self.response_norm:
            y = GlobalResponseNorm(name="grn")(y)
        y = nn.Dense(channels, dtype=style.dtype, name="pwconv2")(y)
        return x + y


class ConvNextV2Encoder(nn.Module):
    """Features at the stem's scale and at 1/2, 1/4, ... of it.

    Attributes:
        stem_width: Channels of the finest map.
        widths: Channels of the stages after it.
        depths: Blocks of those stages.
        style: See `LayerStyle`.
        stem_stride: The finest map is at this part of the input size, 2 or 4; 4 is the
            published stem.
        expansion: See `ConvNextV2Block`.
        kernel_size: See `ConvNextV2Block`.
        response_norm: See `ConvNextV2Block`.
    """

    stem_width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    style: LayerStyle = LayerStyle()
    stem_stride: int = 2
    expansion: int = 4
    kernel_size: int = 7
    response_norm: bool = True

    @property
    def stride(self) -> int:
        """Height and width must be multiples of this."""
        return self.stem_stride * 2 ** len(self.widths)

    @nn.compact
    def __call__(self, image: Features) -> list[Float[Array, "b _ _ _"]]:
        """Returns one feature map per scale, finest first."""
        dtype = self.style.dtype
        border = (4 - self.stem_stride) // 2
        x = nn.Conv(
            self.stem_width,
            (4, 4),
            strides=(self.stem_stride, self.stem_stride),
            padding=((border, border), (border, border)),
            dtype=dtype,
            name="stem",
        )(image.astype(dtype))
        features = [x]
        for stage, (width, depth) in enumerate(
            zip(self.widths, self.depths, strict=True)
        ):
            x = self._downsampled(x, stage, width)
            for index in range(depth):
                x = ConvNextV2Block(
                    self.style,
                    expansion=self.expansion,
                    kernel_size=self.kernel_size,
                    response_norm=self.response_norm,
                    name=f"stage{stage}_block{index}",
                )(x)
            features.append(x)
        return features

    def _downsampled(
        self, x: Features, stage: int, width: int
    ) -> Float[Array, "b _ _ _"]:
        """Normalises and halves the size."""
        dtype, norm, name = self.style.dtype, f"norm{stage}", f"downsample{stage}"
        if self.style.normalization == "affine":
            scale, bias = Affine(name=norm)(x.shape[-1])
            return Downsample(width, dtype=dtype, name=name)(x, scale, bias)
        x = nn.LayerNorm(epsilon=1e-6, dtype=dtype, name=norm)(x)
        return nn.Conv(
            width, (2, 2), strides=(2, 2), padding="VALID", dtype=dtype, name=name
        )(x)
