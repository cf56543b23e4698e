"""The student network."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fusionproxy_jax.config.checks import require, settle_types

# Settings that only some encoders have; the others' blocks are as published.
_BLOCK_SETTINGS = MappingProxyType(
    {
        "stem_stride": ("convnext_v2", "ultra_light"),
        "kernel_size": ("convnext_v2", "ultra_light"),
        "expansion": ("convnext_v2",),
        "response_norm": ("convnext_v2",),
    }
)
# Blocks of the stages at 1/4, 1/8, ... whose kinds the papers' tables give.
_PUBLISHED_DEPTHS = MappingProxyType(
    {"mobilenet_v4": (1, 2, 8, 11), "efficientformer_v2": (3, 3, 9, 6)}
)


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Dual-encoder student with residual fusion heads (Sec. 3.4, Eq. 13).

    The paper gives neither widths nor depths; these are ours, within the `base` budget.
    What later versions added has as default what there was before, so that stored
    configurations stay readable.
    """

    # `mobilenet_v4` and `efficientformer_v2` take the first blocks of each published
    # stage, at widths of your own.
    encoder: Literal[
        "convnext_v2", "mobilenet_v4", "efficientformer_v2", "ultra_light"
    ] = "convnext_v2"
    # Channels of the stem, at 1/2 of the input size (or at 1/4, see stem_stride).
    stem_width: int = 24
    # Channels and blocks of the encoder stages at 1/2, 1/4, 1/8 of the stem's size.
    widths: tuple[int, ...] = (40, 80, 128)
    depths: tuple[int, ...] = (2, 2, 3)
    attention_reduction: int = 4
    # `affine` is scale and bias only, free at run time.
    normalization: Literal["layer", "affine"] = "layer"
    # Of encoders and decoder.
    activation: Literal["gelu", "relu", "hardswish"] = "gelu"
    # 4: the finest features are at 1/4 of the input size, and the decoder predicts
    # cells of 4x4 pixels from them.
    stem_stride: Literal[2, 4] = 2
    # Edge length of the depthwise convolutions.
    kernel_size: int = 7
    # Width inside a block, in widths of its stage.
    expansion: int = 4
    # Global response normalisation in the blocks.
    response_norm: bool = True
    # How the decoder joins coarser features with the next finer ones.
    decoder_join: Literal["concatenate", "add"] = "concatenate"
    # Depthwise-separable convolutions in the decoder.
    decoder_separable: bool = False
    # What the decoder predicts per pixel: a residual for each colour, one for all
    # three, or that and a weight of infrared against visible luminance.
    output: Literal["rgb", "luma", "blend"] = "rgb"

    def __post_init__(self) -> None:
        """Rejects stage lists that do not match or are empty, and idle settings."""
        settle_types(self, "student.")
        require(
            len(self.widths) == len(self.depths) > 0,
            "student.depths",
            self.depths,
            f"one number per stage of student.widths {self.widths}",
        )
        for name in ("widths", "depths"):
            value = getattr(self, name)
            require(min(value) > 0, f"student.{name}", value, "all positive")
        for name in ("stem_width", "attention_reduction", "expansion"):
            value = getattr(self, name)
            require(value >= 1, f"student.{name}", value, ">= 1")
        require(
            self.kernel_size % 2 == 1 and self.kernel_size > 0,
            "student.kernel_size",
            self.kernel_size,
            "odd and positive",
        )
        published = _PUBLISHED_DEPTHS.get(self.encoder)
        if published is not None:
            require(
                len(self.depths) <= len(published)
                and all(map(int.__le__, self.depths, published)),
                "student.depths",
                self.depths,
                f"at most {published} with the encoder {self.encoder}, whose blocks "
                "are the published ones",
            )
        for name, encoders in _BLOCK_SETTINGS.items():
            default = type(self).__dataclass_fields__[name].default
            value = getattr(self, name)
            require(
                self.encoder in encoders or value == default,
                f"student.{name}",
                value,
                f"{default!r} with the encoder {self.encoder}: only "
                f"{' and '.join(encoders)} can vary it",
            )
