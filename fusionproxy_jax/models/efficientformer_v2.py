"""EfficientFormerV2 encoder (Li et al. 2023), a convolution-attention hybrid.

Blocks are feed-forward networks with a 3x3 depthwise convolution in the middle
(Sec. 3.1); the last two of the stages at 1/16 and 1/32 attend first. Features at 1/2
come from inside the stem. Biases of convolutions in front of a batch normalisation are
left out: they are part of the normalisation's own.
"""

from collections.abc import Callable

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from fusionproxy_jax.models import resampling
from fusionproxy_jax.models.conv_norm import ConvNorm
from fusionproxy_jax.models.layer_style import LayerStyle
from fusionproxy_jax.models.relative_attention import AttentionDownsample, MapAttention

Features = Float[Array, "b _ _ _"]

EXPANSIONS = (
    (4, 4, 4),
    (4, 4, 4),
    (4, 4, 3, 3, 3, 3, 4, 4, 4),
    (4, 4, 3, 3, 4, 4),
)
"""Expansion of each block of S1 at 1/4, 1/8, 1/16, 1/32."""

NUM_ATTENTION_BLOCKS = 2
# The stages, of four, at 1/16 and 1/32.
_STRIDED_STAGE, _DENSE_STAGE = 2, 3


class LayerScale(nn.Module):
    """A factor per channel at the end of a residual branch, 1e-5 when new."""

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Scales the branch."""
        scale = self.param("scale", nn.initializers.constant(1e-5), (x.shape[-1],))
        return x * scale.astype(x.dtype).reshape(1, 1, 1, -1)


class FeedForward(nn.Module):
    """Expansion, 3x3 depthwise convolution, projection.

    Attributes:
        style: See `LayerStyle`.
        expansion: Width of the middle, in widths of the block.
    """

    style: LayerStyle
    expansion: int

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Returns the branch of a residual block, of the shape of `x`."""
        channels, style = x.shape[-1], self.style
        y = ConvNorm(style, self.expansion * channels, name="expand")(x)
        y = ConvNorm(style, kernel_size=3, name="middle")(y)
        return ConvNorm(style, channels, activated=False, name="project")(y)


class EfficientFormerV2Encoder(nn.Module):
    """Features at 1/2, 1/4, 1/8, ... of the input size.

    Attributes:
        style: See `LayerStyle`.
        stem_width: Channels at 1/2.
        widths: Channels of up to four stages, at 1/4 to 1/32.
        depths: Blocks of those stages, the first ones of the published stages.
        upsample: Doubles the size of a map.
    """

    style: LayerStyle
    stem_width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    upsample: Callable[[jax.Array], jax.Array] = resampling.upsample

    @property
    def stride(self) -> int:
        """Height and width must be multiples of this."""
        # Blocks at 1/16 attend at 1/32, whether or not there is a stage.
        return 32 if len(self.widths) > _STRIDED_STAGE else 2 ** (len(self.widths) + 1)

    @nn.compact
    def __call__(self, image: Features) -> list[Features]:
        """Returns one feature map per scale, finest first."""
        style = self.style
        x = ConvNorm(style, self.stem_width, kernel_size=3, stride=2, name="stem")(
            image
        )
        features = [x]
        for stage, (width, depth) in enumerate(
            zip(self.widths, self.depths, strict=True)
        ):
            coarser = ConvNorm(
                style,
                width,
                kernel_size=3,
                stride=2,
                # The first is still part of the stem.
                activated=stage == 0,
                name=f"downsample{stage}",
            )(x)
            if stage == _DENSE_STAGE:
                attention = AttentionDownsample(style, width, name="attention_path")
                coarser = coarser + attention(x)
            x = coarser
            for index, expansion in enumerate(EXPANSIONS[stage][:depth]):
                block = f"stage{stage}_block{index}"
                if stage >= _STRIDED_STAGE and index >= depth - NUM_ATTENTION_BLOCKS:
                    attended = MapAttention(
                        style,
                        strided=stage == _STRIDED_STAGE,
                        upsample=self.upsample,
                        name=f"{block}_attention",
                    )(x)
                    x = x + LayerScale(name=f"{block}_attention_scale")(attended)
                hidden = FeedForward(style, expansion, name=f"{block}_feed_forward")(x)
                x = x + LayerScale(name=f"{block}_feed_forward_scale")(hidden)
            features.append(x)
        return features
