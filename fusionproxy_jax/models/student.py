"""The student S_theta: two encoders, a fusion head per scale, a decoder (Sec. 3.4)."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from fusionproxy_jax.models.decoder import Decoder
from fusionproxy_jax.models.fusion_head import FusionHead
from fusionproxy_jax.models.output import compose
from fusionproxy_jax.types import Image, Infrared


class Student(nn.Module):
    """Fuses a pair into RGB in one pass; knows nothing of teachers or losses.

    Attributes:
        encoder: A network that returns one feature map per scale, finest first, each
            half the size of the one before, and has a `stride` that sizes must be
            multiples of. The student holds two such networks, one per modality.
        decoder: Turns one fused feature map per scale into maps at full size, of which
            `compose` makes the fused image.
        attention_reduction: Bottleneck of the fusion heads' channel attention.
        dtype: Computation dtype of the fusion heads; parameters stay float32.
    """

    encoder: nn.Module
    decoder: Decoder
    attention_reduction: int = 4
    dtype: DTypeLike = jnp.float32

    @property
    def stride(self) -> int:
        """Height and width must be multiples of this."""
        return self.encoder.stride

    @nn.compact
    def __call__(self, visible: Image, infrared: Infrared) -> Image:
        """Returns the fused image, float32, not clipped: losses see overshoot."""
        visible_features = self.encoder.copy(name="visible_encoder")(visible)
        infrared_features = self.encoder.copy(name="infrared_encoder")(infrared)
        fused_features = [
            FusionHead(self.attention_reduction, dtype=self.dtype, name=f"fuse{level}")(
                infrared_features[level], visible_features[level]
            )
            for level in range(len(visible_features))
        ]
        maps = self.decoder(fused_features)
        return compose(self.decoder.output, maps, visible, infrared)
