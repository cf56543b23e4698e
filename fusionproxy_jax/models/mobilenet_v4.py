"""MobileNetV4 encoder (Qin et al. 2024): universal inverted bottlenecks.

A block has up to two depthwise convolutions, one before the expansion and one in the
middle; which of them, how large and how wide was found by the paper's architecture
search. The classification head, from the 1x1 convolution to 960 channels on, is left
out.
"""

from typing import NamedTuple

from flax import linen as nn
from jaxtyping import Array, Float

from fusionproxy_jax.models.conv_norm import ConvNorm
from fusionproxy_jax.models.layer_style import LayerStyle

Features = Float[Array, "b _ _ _"]


class BlockSpec(NamedTuple):
    """One row of the paper's architecture tables.

    Attributes:
        start: Edge length of the depthwise convolution before the expansion; 0: none.
        middle: Edge length of the one after it; 0: none.
        expansion: Width of the middle, in widths of the input.
    """

    start: int
    middle: int
    expansion: int


STAGES = (
    # At 1/8: two ExtraDW blocks.
    (BlockSpec(3, 5, 4), BlockSpec(3, 3, 2)),
    # At 1/16.
    (
        BlockSpec(3, 5, 6),
        BlockSpec(3, 3, 4),
        BlockSpec(3, 3, 4),
        BlockSpec(3, 5, 4),
        BlockSpec(3, 3, 4),
        BlockSpec(3, 0, 4),
        BlockSpec(0, 0, 2),
        BlockSpec(3, 0, 4),
    ),
    # At 1/32.
    (
        BlockSpec(5, 5, 6),
        BlockSpec(5, 5, 4),
        BlockSpec(3, 5, 4),
        BlockSpec(3, 5, 4),
        BlockSpec(0, 0, 4),
        BlockSpec(3, 0, 4),
        BlockSpec(3, 5, 2),
        BlockSpec(5, 5, 4),
        BlockSpec(0, 0, 4),
        BlockSpec(0, 0, 4),
        BlockSpec(5, 0, 2),
    ),
)
"""Blocks of MobileNetV4-Conv-M after the fused one; the first of a stage halves."""

FUSED_EXPANSION = 4

# Each block that adds to its input then raises the second moment by 4 % at the start.
_BRANCH_SCALE = 0.2


class FusedInvertedBottleneck(nn.Module):
    """Expanding 3x3 convolution of stride 2, then projection.

    Attributes:
        style: See `LayerStyle`.
        features: Output channels.
    """

    style: LayerStyle
    features: int

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Returns a map of half the size."""
        y = ConvNorm(
            self.style,
            FUSED_EXPANSION * x.shape[-1],
            kernel_size=3,
            stride=2,
            name="expand",
        )(x)
        return ConvNorm(self.style, self.features, activated=False, name="project")(y)


class UniversalInvertedBottleneck(nn.Module):
    """Depthwise, expansion, depthwise, projection; the depthwise ones as specified.

    Attributes:
        style: See `LayerStyle`.
        features: Output channels.
        spec: Kernel sizes and expansion.
        stride: Of the middle depthwise convolution.
    """

    style: LayerStyle
    features: int
    spec: BlockSpec
    stride: int = 1

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Returns the new features, with the input added where shapes agree."""
        style, spec, channels = self.style, self.spec, x.shape[-1]
        adds = self.stride == 1 and channels == self.features
        y = x
        if spec.start:
            y = ConvNorm(
                style, kernel_size=spec.start, activated=False, name="start_depthwise"
            )(y)
        y = ConvNorm(style, spec.expansion * channels, name="expand")(y)
        if spec.middle:
            y = ConvNorm(
                style,
                kernel_size=spec.middle,
                stride=self.stride,
                name="middle_depthwise",
            )(y)
        y = ConvNorm(
            style,
            self.features,
            activated=False,
            initial_scale=_BRANCH_SCALE if adds else 1.0,
            name="project",
        )(y)
        return x + y if adds else y


class MobileNetV4Encoder(nn.Module):
    """Features at 1/2, 1/4, 1/8, ... of the input size.

    Attributes:
        style: See `LayerStyle`.
        stem_width: Channels at 1/2.
        widths: Channels of up to four stages, at 1/4 to 1/32.
        depths: Blocks of those stages, the first ones of the published stages.
    """

    style: LayerStyle
    stem_width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]

    @property
    def stride(self) -> int:
        """Height and width must be multiples of this."""
        return 2 ** (len(self.widths) + 1)

    @nn.compact
    def __call__(self, image: Features) -> list[Features]:
        """Returns one feature map per scale, finest first."""
        style = self.style
        x = ConvNorm(style, self.stem_width, kernel_size=3, stride=2, name="stem")(
            image
        )
        features = [x]
        x = FusedInvertedBottleneck(style, self.widths[0], name="fused")(x)
        features.append(x)
        for stage, (width, depth) in enumerate(
            zip(self.widths[1:], self.depths[1:], strict=True)
        ):
            for index, spec in enumerate(STAGES[stage][:depth]):
                x = UniversalInvertedBottleneck(
                    style,
                    width,
                    spec,
                    stride=2 if index == 0 else 1,
                    name=f"stage{stage}_block{index}",
                )(x)
            features.append(x)
        return features
