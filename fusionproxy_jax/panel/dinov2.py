"""DINOv2 vision transformers (Oquab et al. 2024; weights Apache-2.0).

The networks without registers, up to ViT-L: their MLPs have two layers and a GELU.
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
from fusionproxy_jax.panel.vit import (
    EncoderBlock,
    layer_norm,
    resample_positions,
    weight_and_bias,
)

_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class Dinov2Config:
    """Sizes of a network, and the block whose patch tokens are taken; default ViT-B."""

    # Side of the images the positions were learned for.
    image_size: int = 518
    patch: int = 14
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: int = 4
    # Counted from 1.
    tap: int = 6

    def __post_init__(self) -> None:
        """Rejects sizes that patches or heads do not divide, and a tap beyond."""
        require(
            self.image_size % self.patch == 0,
            "dinov2.image_size",
            self.image_size,
            f"a multiple of patch {self.patch}",
        )
        require(
            self.width % self.num_heads == 0,
            "dinov2.width",
            self.width,
            f"a multiple of num_heads {self.num_heads}",
        )
        require(
            1 <= self.tap <= self.num_layers,
            "dinov2.tap",
            self.tap,
            f"a block from 1 to {self.num_layers}",
        )


class Dinov2(nn.Module):
    """The transformer up to the tapped block, or with all blocks and the last norm."""

    config: Dinov2Config
    whole: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"]
    ) -> tuple[Float32[Array, "b gh gw c"], dict[str, Array]]:
        """Returns the tapped block's patch tokens on their grid, and intermediates.

        These are the patch embedding without positions [b, gh, gw, c], tokens
        [b, 1 + gh gw, c] with the class token in front of the first block, and of the
        last norm where the network is whole. Sides are rounded down to patches.
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
        b, gh, gw, c = patches.shape
        x = self._with_positions(patches)
        for number in range(1, (config.num_layers if self.whole else config.tap) + 1):
            x = EncoderBlock(
                config.num_heads,
                config.mlp_ratio * config.width,
                partial(jax.nn.gelu, approximate=False),
                _EPSILON,
                layer_scale=True,
                dtype=self.dtype,
                name=f"block_{number}",
            )(x)
            if number == 1:
                intermediates["block_1"] = x
            if number == config.tap:
                tapped = x[:, 1:].reshape(b, gh, gw, c).astype(jnp.float32)
        if self.whole:
            x = layer_norm(_EPSILON, self.dtype, name="norm")(x)
            intermediates["norm"] = x
        return tapped, intermediates

    def _with_positions(
        self, patches: Float[Array, "b gh gw c"]
    ) -> Float[Array, "b t c"]:
        """Returns the class token and the patches, each with its position."""
        b, gh, gw, c = patches.shape
        side = self.config.image_size // self.config.patch
        normal = nn.initializers.normal(0.02)
        class_token = self.param("class_token", normal, (1, 1, c))
        positions = self.param("positions", normal, (1, 1 + side**2, c))
        grid = resample_positions(positions[0, 1:].reshape(side, side, c), (gh, gw))
        first = (class_token + positions[:, :1]).astype(patches.dtype)
        patches = patches + grid[None].astype(patches.dtype)
        return jnp.concatenate(
            [jnp.broadcast_to(first, (b, 1, c)), patches.reshape(b, gh * gw, c)], axis=1
        )


def dinov2_key_table(config: Dinov2Config) -> dict[str, tuple[str, str]]:
    """Returns the keys of Hugging Face's files -> (path below "params", transform)."""
    table = {
        "embeddings.cls_token": ("class_token", "as_is"),
        "embeddings.position_embeddings": ("positions", "as_is"),
        **weight_and_bias(
            "embeddings.patch_embeddings.projection", "patch_embedding", "conv"
        ),
        **weight_and_bias("layernorm", "norm", "as_is"),
    }
    for number in range(1, config.num_layers + 1):
        source, block = f"encoder.layer.{number - 1}", f"block_{number}"
        for theirs, ours in {
            "attention.attention.query": "attention/query",
            "attention.attention.key": "attention/key",
            "attention.attention.value": "attention/value",
            "attention.output.dense": "attention/out",
            "mlp.fc1": "mlp/up",
            "mlp.fc2": "mlp/down",
        }.items():
            table |= weight_and_bias(f"{source}.{theirs}", f"{block}/{ours}", "linear")
        for half in (1, 2):
            table |= weight_and_bias(
                f"{source}.norm{half}", f"{block}/norm{half}", "as_is"
            )
            table[f"{source}.layer_scale{half}.lambda1"] = (
                f"{block}/layer_scale{half}/scale",
                "as_is",
            )
    return table


def dinov2_input_size(config: Dinov2Config, height: int, width: int) -> tuple[int, int]:
    """Returns the next lower multiples of a patch, one patch at least."""
    return tuple(
        max(side // config.patch, 1) * config.patch for side in (height, width)
    )


def _published(name: str, repository: str, config: Dinov2Config) -> FoundationModel:
    return FoundationModel(
        name=name,
        repository=repository,
        licence="Apache-2.0",
        config=config,
        build=Dinov2,
        key_table=dinov2_key_table,
        # The mask token serves training only; a classifier has a head.
        ignored=("embeddings.mask_token", "classifier.*"),
        prefixes=("module.", "dinov2."),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        input_size=dinov2_input_size,
    )


DINOV2_SMALL = _published(
    "dinov2_small", "facebook/dinov2-small", Dinov2Config(width=384, num_heads=6)
)
DINOV2_BASE = _published("dinov2", "facebook/dinov2-base", Dinov2Config())
