"""Named students and the one place that turns a configuration into a network."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.models import resampling
from fusionproxy_jax.models.decoder import Decoder
from fusionproxy_jax.models.encoders import build_encoder
from fusionproxy_jax.models.student import Student

MOBILENET_V4_CONV_M = StudentConfig(
    encoder="mobilenet_v4",
    stem_width=32,
    widths=(48, 80, 160, 256),
    depths=(1, 2, 8, 11),
    normalization="affine",
    activation="relu",
)
"""A student with the whole published encoder (Qin et al. 2024, MNv4-Conv-M)."""

EFFICIENTFORMER_V2_S1 = StudentConfig(
    encoder="efficientformer_v2",
    stem_width=16,
    widths=(32, 48, 120, 224),
    depths=(3, 3, 9, 6),
    normalization="affine",
    activation="gelu",
)
"""A student with the whole published encoder (Li et al. 2023, EfficientFormerV2-S1)."""

# ConvNeXt V2 without what costs time on a CPU and, here, gains nothing: layer norm,
# GELU, GRN, full-resolution features. Widths fill blocks of 16 channels.
_SMALL = StudentConfig(
    stem_stride=4,
    stem_width=32,
    widths=(64, 128),
    depths=(2, 3),
    expansion=2,
    normalization="affine",
    activation="relu",
    response_norm=False,
    decoder_join="add",
    output="blend",
)

STUDENTS: Mapping[str, StudentConfig] = MappingProxyType(
    {
        # 0.8 G multiply-adds at 480x640, 0.34 M parameters.
        "nano": dataclasses.replace(
            _SMALL, stem_width=16, widths=(48, 96), depths=(2, 2)
        ),
        # 1.8 G, 0.75 M.
        "small": _SMALL,
        # Row l, the default: ConvNeXt V2. 6.1 G multiply-adds at 480x640, 1.5 M
        # parameters.
        "base": StudentConfig(),
        # Row k: the published stages down to 1/16, the finest two scales narrower.
        # 8.0 G, 3.5 M.
        "mobilenet_v4": dataclasses.replace(
            MOBILENET_V4_CONV_M, stem_width=24, widths=(40, 80, 160), depths=(1, 2, 8)
        ),
        # Row j: the published stages down to 1/16. 7.0 G, 3.7 M.
        "efficientformer_v2": dataclasses.replace(
            EFFICIENTFORMER_V2_S1, widths=(32, 48, 120), depths=(3, 3, 9)
        ),
        # Row i, of which the paper says nothing but its name. 1.7 G, 0.26 M.
        "ultra_light": StudentConfig(
            encoder="ultra_light",
            stem_width=16,
            widths=(32, 64, 96),
            depths=(2, 2, 2),
            kernel_size=3,
            normalization="affine",
            activation="relu",
        ),
    }
)
"""Named students: three sizes, and rows i to l of the paper's Table 4 (l is `base`)."""


def build_student(
    config: StudentConfig,
    *,
    dtype: DTypeLike = jnp.float32,
    grouped: bool | None = None,
    upsample: Callable[[jax.Array], jax.Array] = resampling.upsample,
    depth_to_space: Callable[[jax.Array, int], jax.Array] = resampling.depth_to_space,
) -> Student:
    """Returns the network of `config`.

    Args:
        config: Encoder, widths, depths and the rest.
        dtype: Computation dtype; parameters stay float32.
        grouped: Form of depthwise convolutions, see `depthwise`.
        upsample: Doubles the size of a map; exporters have a form of their own.
        depth_to_space: See `Decoder`; exporters have a form of their own.
    """
    return Student(
        encoder=build_encoder(config, dtype=dtype, grouped=grouped, upsample=upsample),
        decoder=Decoder(
            cell=config.stem_stride,
            output=config.output,
            join=config.decoder_join,
            separable=config.decoder_separable,
            activation=config.activation,
            dtype=dtype,
            grouped=grouped,
            upsample=upsample,
            depth_to_space=depth_to_space,
        ),
        attention_reduction=config.attention_reduction,
        dtype=dtype,
    )


def student_config(name: str) -> StudentConfig:
    """Returns the configuration of a named student."""
    if name not in STUDENTS:
        raise FusionProxyError(f"no student {name!r}; students are {sorted(STUDENTS)}")
    return STUDENTS[name]
