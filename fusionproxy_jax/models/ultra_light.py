"""Ultra-light encoder: a plain network of depthwise-separable convolutions.

The paper compares with an "ultra-light custom CNN" (Table 4, row i) and says no more of
it; this design is ours. Each layer is a depthwise convolution, then a 1x1 one, either
with normalisation and activation; no expansion, attention or response normalisation.
"""

from flax import linen as nn
from jaxtyping import Array, Float

from fusionproxy_jax.models.conv_norm import ConvNorm
from fusionproxy_jax.models.layer_style import LayerStyle

Features = Float[Array, "b _ _ _"]


class SeparableConv(nn.Module):
    """Depthwise convolution, 1x1 convolution, and the input added where shapes agree.

    Attributes:
        style: See `LayerStyle`.
        features: Output channels.
        kernel_size: Odd edge length of the depthwise convolution.
        stride: 1 or 2.
    """

    style: LayerStyle
    features: int
    kernel_size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Returns the new features."""
        adds = self.stride == 1 and x.shape[-1] == self.features
        y = ConvNorm(
            self.style,
            kernel_size=self.kernel_size,
            stride=self.stride,
            name="depthwise",
        )(x)
        y = ConvNorm(
            self.style,
            self.features,
            initial_scale=0.5 if adds else 1.0,
            name="pointwise",
        )(y)
        return x + y if adds else y


class UltraLightEncoder(nn.Module):
    """Features at the stem's scale and at 1/2, 1/4, ... of it.

    Attributes:
        style: See `LayerStyle`.
        stem_width: Channels of the finest map.
        widths: Channels of the stages after it.
        depths: Blocks of those stages, after the one that halves the size.
        kernel_size: Odd edge length of the depthwise convolutions.
        stem_stride: The finest map is at this part of the input size, 2 or 4.
    """

    style: LayerStyle
    stem_width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kernel_size: int = 3
    stem_stride: int = 2

    @property
    def stride(self) -> int:
        """Height and width must be multiples of this."""
        return self.stem_stride * 2 ** len(self.widths)

    @nn.compact
    def __call__(self, image: Features) -> list[Features]:
        """Returns one feature map per scale, finest first."""
        x = ConvNorm(
            self.style,
            self.stem_width,
            # Neighbouring windows overlap.
            kernel_size=2 * self.stem_stride - 1,
            stride=self.stem_stride,
            name="stem",
        )(image)
        features = [x]
        for stage, (width, depth) in enumerate(
            zip(self.widths, self.depths, strict=True)
        ):
            for index in range(depth + 1):
                x = SeparableConv(
                    self.style,
                    width,
                    self.kernel_size,
                    stride=2 if index == 0 else 1,
                    name=f"stage{stage}_block{index}",
                )(x)
            features.append(x)
        return features
