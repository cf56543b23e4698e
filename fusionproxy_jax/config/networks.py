"""Denoising networks of the teachers: the published ones, and the compact ones."""

from dataclasses import dataclass
from typing import Literal

from fusionproxy_jax.config.checks import require, settle_types

# What a network's output means: the noise, the clean image, or
# v = sqrt(abar) noise - sqrt(1 - abar) clean.
Prediction = Literal["noise", "clean", "velocity"]


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The unconditional UNet of guided diffusion; defaults are ADM's 256x256 model."""

    in_channels: int = 3
    # ADM predicts noise and a variance, which DDIM does not use.
    out_channels: int = 6
    base_width: int = 256
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    num_blocks: int = 2
    # Down-sampling factors, relative to the network's first level, with attention.
    attention_factors: tuple[int, ...] = (8, 16, 32)
    head_width: int = 64
    num_groups: int = 32
    # Space-to-depth in front: the network works on patches of this side.
    patch_px: int = 1
    prediction: Prediction = "noise"

    def __post_init__(self) -> None:
        """Rejects widths that groups or heads do not divide."""
        settle_types(self, "unet.")
        require(
            len(self.multipliers) > 0,
            "unet.multipliers",
            self.multipliers,
            "at least one level",
        )
        require(
            self.base_width % self.num_groups == 0,
            "unet.base_width",
            self.base_width,
            f"a multiple of num_groups {self.num_groups}",
        )

    @property
    def stride(self) -> int:
        """Image sides must be multiples of this."""
        return self.patch_px * 2 ** (len(self.multipliers) - 1)


@dataclass(frozen=True, kw_only=True)
class MaskDifuserNetConfig:
    """Mask-DiFuser's network; defaults are the published one.

    Two encoders of the views A and B, a noisy branch, and a UNet that attends to the
    views' semantics.
    """

    base_width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    num_blocks: int = 2
    # Levels (0 is the finest) whose blocks, and the first middle block, attend to
    # themselves; () leaves self-attention out everywhere.
    self_attention_levels: tuple[int, ...] = (2,)
    # Levels whose blocks attend to both views; the middle blocks always do. The
    # published network does everywhere.
    cross_attention_levels: tuple[int, ...] = (0, 1, 2, 3)
    # The content encoder's convolutions; half the last one is its output's width, and
    # the noisy branch has the same.
    content_widths: tuple[int, ...] = (32, 64, 128)
    # The semantic encoder: a convolution at full size, then one of stride 2 each.
    semantic_widths: tuple[int, ...] = (32, 32, 64, 128, 128)
    semantic_layers: int = 4
    semantic_heads: int = 8
    semantic_hidden: int = 2048
    num_groups: int = 32
    # Space-to-depth in front of every branch.
    patch_px: int = 1
    # `direct` is the network's last convolution. `mixture` adds to it a mixture of
    # both views, with weights from the same convolution, so that fine detail need not
    # pass the bottleneck; ours, it predicts the clean image.
    head: Literal["direct", "mixture"] = "direct"
    prediction: Prediction = "noise"

    def __post_init__(self) -> None:
        """Rejects a mixture of views that is called anything but the clean image."""
        settle_types(self, "mask_difuser.")
        require(
            self.head == "direct" or self.prediction == "clean",
            "mask_difuser.prediction",
            self.prediction,
            "`clean` when head is `mixture`",
        )
        require(
            self.base_width % self.num_groups == 0,
            "mask_difuser.base_width",
            self.base_width,
            f"a multiple of num_groups {self.num_groups}",
        )

    @property
    def stride(self) -> int:
        """Image sides must be multiples of this."""
        levels = 2 ** (len(self.multipliers) - 1)
        semantic = 2 ** (len(self.semantic_widths) - 1)
        return self.patch_px * max(levels, semantic)
