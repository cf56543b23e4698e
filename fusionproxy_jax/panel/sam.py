"""Image encoder of Segment Anything (Kirillov et al. 2023; weights Apache-2.0).

A vision transformer on maps [b, gh, gw, c]. Most blocks attend within windows, a few
over the whole map; both add relative positions, one table per axis, to their scores.
On another grid than the network's own, absolute positions are resampled bicubically,
as in ViTDet (Li et al. 2022), and relative ones of the whole map linearly.
"""

from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from fusionproxy_jax.config.checks import require
from fusionproxy_jax.panel.foundation_model import FoundationModel
from fusionproxy_jax.panel.sam_attention import Map, SamAttention, in_windows
from fusionproxy_jax.panel.vit import (
    Mlp,
    layer_norm,
    resample_positions,
    weight_and_bias,
)

_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class SamConfig:
    """Sizes of an encoder, and the block whose map is taken; default ViT-B."""

    # Side of the images the positions were learned for.
    image_size: int = 1024
    patch: int = 16
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: int = 4
    window: int = 14
    # Blocks that attend over the whole map, counted from 0 as in its configuration.
    global_layers: tuple[int, ...] = (2, 5, 8, 11)
    out_channels: int = 256
    # Counted from 1.
    tap: int = 6
    # Side of the square that images are resized to. The work per image grows with its
    # area, that of blocks over the whole map faster.
    side_px: int = 512

    def __post_init__(self) -> None:
        """Rejects sizes that patches or heads do not divide, and a tap beyond."""
        for name, divisor in (("image_size", "patch"), ("width", "num_heads")):
            require(
                getattr(self, name) % getattr(self, divisor) == 0,
                f"sam.{name}",
                getattr(self, name),
                f"a multiple of {divisor} {getattr(self, divisor)}",
            )
        require(
            1 <= self.tap <= self.num_layers,
            "sam.tap",
            self.tap,
            f"a block from 1 to {self.num_layers}",
        )
        require(
            self.side_px >= self.patch,
            "sam.side_px",
            self.side_px,
            f"at least one patch, {self.patch}",
        )

    @property
    def grid(self) -> int:
        """Side of the map that the stored positions are for."""
        return self.image_size // self.patch


class SamBlock(nn.Module):
    """Pre-norm block: x + attention, within windows or not, then x + MLP."""

    config: SamConfig
    windowed: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Refines `x`, keeping its shape."""
        config = self.config
        side = config.window if self.windowed else config.grid
        attention = SamAttention(config.num_heads, side, self.dtype, name="attention")
        y = layer_norm(_EPSILON, self.dtype, name="norm1")(x)
        x = x + (in_windows(attention, y, side) if self.windowed else attention(y))
        y = layer_norm(_EPSILON, self.dtype, name="norm2")(x)
        mlp = Mlp(
            config.mlp_ratio * config.width,
            partial(jax.nn.gelu, approximate=False),
            self.dtype,
            name="mlp",
        )
        return x + mlp(y)


class SamNeck(nn.Module):
    """Two convolutions without bias, each followed by a norm over channels."""

    out_channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Returns [b, h, w, out_channels]."""
        for number, side in (1, 1), (2, 3):
            x = nn.Conv(
                self.out_channels,
                (side, side),
                padding=side // 2,
                use_bias=False,
                dtype=self.dtype,
                name=f"conv{number}",
            )(x)
            x = layer_norm(_EPSILON, self.dtype, name=f"norm{number}")(x)
        return x


class SamEncoder(nn.Module):
    """The encoder up to the tapped block, or with all blocks and the neck."""

    config: SamConfig
    whole: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"]
    ) -> tuple[Float32[Array, "b gh gw c"], dict[str, Array]]:
        """Returns the tapped block's map and intermediate ones by name.

        These are of the patch embedding without positions, of the first block, and of
        the neck where the network is whole. Sides are rounded down to patches.
        """
        config = self.config
        patches = nn.Conv(
            config.width,
            (config.patch, config.patch),
            strides=(config.patch, config.patch),
            padding="VALID",
            dtype=self.dtype,
            name="patch_embedding",
        )(images.astype(self.dtype))
        intermediates = {"patch_embedding": patches}
        shape = (1, config.grid, config.grid, config.width)
        positions = self.param("positions", nn.initializers.normal(0.02), shape)
        positions = resample_positions(positions[0], patches.shape[1:3])
        # The sum over blocks stays float32 whatever they compute in: in bfloat16 it
        # would nearly double the error of the features.
        x = patches.astype(jnp.float32) + positions[None]
        for number in range(1, (config.num_layers if self.whole else config.tap) + 1):
            windowed = number - 1 not in config.global_layers
            name = f"block_{number}"
            x = SamBlock(config, windowed, self.dtype, name=name)(x)
            if number == 1:
                intermediates[name] = x
            if number == config.tap:
                tapped = x
        if self.whole:
            neck = SamNeck(config.out_channels, self.dtype, name="neck")
            intermediates["neck"] = neck(x)
        return tapped, intermediates


def sam_key_table(config: SamConfig) -> dict[str, tuple[str, str]]:
    """Returns the keys of Hugging Face's files -> (path below "params", transform)."""
    table = {"pos_embed": ("positions", "embedding")}
    table |= weight_and_bias("patch_embed.projection", "patch_embedding", "conv")
    for number in range(1, config.num_layers + 1):
        source, block = f"layers.{number - 1}", f"block_{number}"
        for theirs, ours in {
            "attn.qkv": "attention/qkv",
            "attn.proj": "attention/out",
            "mlp.lin1": "mlp/up",
            "mlp.lin2": "mlp/down",
        }.items():
            table |= weight_and_bias(f"{source}.{theirs}", f"{block}/{ours}", "linear")
        for name in ("rel_pos_h", "rel_pos_w"):
            table[f"{source}.attn.{name}"] = (f"{block}/attention/{name}", "as_is")
        for half in (1, 2):
            table |= weight_and_bias(
                f"{source}.layer_norm{half}", f"{block}/norm{half}", "as_is"
            )
    for number in (1, 2):
        table[f"neck.conv{number}.weight"] = (f"neck/conv{number}/kernel", "conv")
        table |= weight_and_bias(
            f"neck.layer_norm{number}", f"neck/norm{number}", "as_is"
        )
    return table


def sam_input_size(config: SamConfig, height: int, width: int) -> tuple[int, int]:
    """Returns the configured square, whatever the image's size and aspect."""
    return config.side_px, config.side_px


SAM_BASE = FoundationModel(
    name="sam",
    repository="facebook/sam-vit-base",
    licence="Apache-2.0",
    config=SamConfig(),
    build=SamEncoder,
    key_table=sam_key_table,
    ignored=("mask_decoder.*", "prompt_encoder.*", "shared_image_embedding.*"),
    prefixes=("module.", "vision_encoder."),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    input_size=sam_input_size,
)
