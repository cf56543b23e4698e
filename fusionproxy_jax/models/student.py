"""The student S_theta: two encoders, a fusion head per scale, a decoder (Sec. 3.4)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from fusionproxy_jax.models import resampling
from fusionproxy_jax.models.convnext_v2 import ConvNextV2Encoder
from fusionproxy_jax.models.decoder import Decoder
from fusionproxy_jax.models.fusion_head import FusionHead
from fusionproxy_jax.types import Image, Infrared


class Student(nn.Module):
    """Fuses a pair into RGB in one pass; knows nothing of teachers or losses.

    Attributes:
        stem_width: Channels at 1/2 of the input size.
        widths: Channels at 1/4, 1/8, ...
        depths: Encoder blocks at 1/4, 1/8, ...
        attention_reduction: Bottleneck of the fusion heads' channel attention.
        dtype: Computation dtype; parameters stay float32.
        grouped: See `DepthwiseConv`.
        upsample: See `Decoder`.
        depth_to_space: See `Decoder`.
    """

    stem_width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    attention_reduction: int = 4
    dtype: DTypeLike = jnp.float32
    grouped: bool | None = None
    upsample: Callable[[jax.Array], jax.Array] = resampling.upsample
    depth_to_space: Callable[[jax.Array], jax.Array] = resampling.depth_to_space

    @property
    def stride(self) -> int:
        """Height and width must be multiples of this."""
        return 2 ** (len(self.widths) + 1)

    @nn.compact
    def __call__(self, visible: Image, infrared: Infrared) -> Image:
        """Returns the fused image, float32, not clipped: losses see overshoot."""
        encoders = {
            name: ConvNextV2Encoder(
                stem_width=self.stem_width,
                widths=self.widths,
                depths=self.depths,
                dtype=self.dtype,
                grouped=self.grouped,
                name=f"{name}_encoder",
            )
            for name in ("visible", "infrared")
        }
        visible_features = encoders["visible"](visible)
        infrared_features = encoders["infrared"](infrared)
        fused_features = [
            FusionHead(self.attention_reduction, dtype=self.dtype, name=f"fuse{level}")(
                infrared_features[level], visible_features[level]
            )
            for level in range(len(visible_features))
        ]
        residual = Decoder(
            dtype=self.dtype,
            upsample=self.upsample,
            depth_to_space=self.depth_to_space,
            name="decoder",
        )(fused_features)
        return visible.astype(jnp.float32) + residual.astype(jnp.float32)
