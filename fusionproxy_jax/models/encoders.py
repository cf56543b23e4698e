"""The encoder that a student's configuration names."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.models import resampling
from fusionproxy_jax.models.convnext_v2 import ConvNextV2Encoder
from fusionproxy_jax.models.efficientformer_v2 import EfficientFormerV2Encoder
from fusionproxy_jax.models.layer_style import LayerStyle
from fusionproxy_jax.models.mobilenet_v4 import MobileNetV4Encoder
from fusionproxy_jax.models.ultra_light import UltraLightEncoder


def build_encoder(
    config: StudentConfig,
    *,
    dtype: DTypeLike = jnp.float32,
    grouped: bool | None = None,
    upsample: Callable[[jax.Array], jax.Array] = resampling.upsample,
) -> nn.Module:
    """Returns the network that turns an image into one feature map per scale.

    The maps come finest first, each half the size of the one before. Height and width
    of images must be multiples of the network's `stride`.

    Args:
        config: The student's configuration.
        dtype: Computation dtype; parameters are float32.
        grouped: See `depthwise`.
        upsample: Doubles the size of a map.
    """
    style = LayerStyle(
        normalization=config.normalization,
        activation=config.activation,
        dtype=dtype,
        grouped=grouped,
    )
    scales = {
        "stem_width": config.stem_width,
        "widths": config.widths,
        "depths": config.depths,
        "style": style,
    }
    match config.encoder:
        case "convnext_v2":
            return ConvNextV2Encoder(
                **scales,
                stem_stride=config.stem_stride,
                expansion=config.expansion,
                kernel_size=config.kernel_size,
                response_norm=config.response_norm,
            )
        case "mobilenet_v4":
            return MobileNetV4Encoder(**scales)
        case "efficientformer_v2":
            return EfficientFormerV2Encoder(**scales, upsample=upsample)
        case "ultra_light":
            return UltraLightEncoder(
                **scales,
                stem_stride=config.stem_stride,
                kernel_size=config.kernel_size,
            )
