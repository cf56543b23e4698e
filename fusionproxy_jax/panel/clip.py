"""Image towers of CLIP (Radford et al. 2021; code and weights MIT)."""

from dataclasses import dataclass

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

_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Sizes of a tower, and the block whose patch tokens are taken; default ViT-L."""

    # Side of the images the positions were learned for.
    image_size: int = 224
    patch: int = 14
    width: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    mlp_ratio: int = 4
    # Counted from 1.
    tap: int = 12

    def __post_init__(self) -> None:
        """Rejects sizes that patches or heads do not divide, and a tap beyond."""
        for name, divisor in (("image_size", "patch"), ("width", "num_heads")):
            require(
                getattr(self, name) % getattr(self, divisor) == 0,
                f"clip.{name}",
                getattr(self, name),
                f"a multiple of {divisor} {getattr(self, divisor)}",
            )
        require(
            1 <= self.tap <= self.num_layers,
            "clip.tap",
            self.tap,
            f"a block from 1 to {self.num_layers}",
        )


class ClipTower(nn.Module):
    """The tower up to the tapped block, or with all blocks and the last norm."""

    config: ClipConfig
    whole: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"]
    ) -> tuple[Float32[Array, "b gh gw c"], dict[str, Array]]:
        """Returns the tapped block's patch tokens on their grid, and intermediates.

        These are the patch embedding without positions [b, gh, gw, c], tokens
        [b, 1 + gh gw, c] with the class token in front of the first block, and the
        class token of the last norm [b, c] where the tower is whole. Sides are rounded
        down to patches.
        """
        config = self.config
        patches = nn.Conv(
            config.width,
            (config.patch, config.patch),
            strides=(config.patch, config.patch),
            padding="VALID",
            use_bias=False,
            dtype=self.dtype,
            name="patch_embedding",
        )(images.astype(self.dtype))
        intermediates = {"patch_embedding": patches}
        b, gh, gw, c = patches.shape
        # The sum over blocks stays float32 whatever they compute in: in bfloat16 it
        # would nearly double the error of the features.
        x = self._with_positions(patches.astype(jnp.float32))
        x = layer_norm(_EPSILON, jnp.float32, name="pre_norm")(x)
        for number in range(1, (config.num_layers if self.whole else config.tap) + 1):
            x = EncoderBlock(
                config.num_heads,
                config.mlp_ratio * config.width,
                quick_gelu,
                _EPSILON,
                dtype=self.dtype,
                name=f"block_{number}",
            )(x)
            if number == 1:
                intermediates["block_1"] = x
            if number == config.tap:
                tapped = x[:, 1:].reshape(b, gh, gw, c)
        if self.whole:
            post_norm = layer_norm(_EPSILON, self.dtype, name="post_norm")
            intermediates["post_norm"] = post_norm(x[:, 0])
        return tapped, intermediates

    def _with_positions(
        self, patches: Float[Array, "b gh gw c"]
    ) -> Float[Array, "b t c"]:
        """Returns the class token and the patches, each with its position."""
        b, gh, gw, c = patches.shape
        side = self.config.image_size // self.config.patch
        normal = nn.initializers.normal(0.02)
        class_token = self.param("class_token", normal, (c,))
        positions = self.param("positions", normal, (1 + side**2, c))
        grid = resample_positions(positions[1:].reshape(side, side, c), (gh, gw))
        first = jnp.broadcast_to(class_token + positions[0], (b, 1, c))
        patches = (patches + grid[None]).reshape(b, gh * gw, c)
        return jnp.concatenate([first, patches], axis=1)


def quick_gelu(x: jax.Array) -> jax.Array:
    """Returns `x sigmoid(1.702 x)`, what CLIP was trained with in place of GELU."""
    return x * jax.nn.sigmoid(1.702 * x)


def clip_key_table(config: ClipConfig) -> dict[str, tuple[str, str]]:
    """Returns the keys of Hugging Face's files -> (path below "params", transform)."""
    table = {
        "embeddings.class_embedding": ("class_token", "as_is"),
        "embeddings.patch_embedding.weight": ("patch_embedding/kernel", "conv"),
        "embeddings.position_embedding.weight": ("positions", "embedding"),
        # Spelled so in the files.
        **weight_and_bias("pre_layrnorm", "pre_norm", "as_is"),
        **weight_and_bias("post_layernorm", "post_norm", "as_is"),
    }
    for number in range(1, config.num_layers + 1):
        source, block = f"encoder.layers.{number - 1}", f"block_{number}"
        for theirs, ours in {
            "self_attn.q_proj": "attention/query",
            "self_attn.k_proj": "attention/key",
            "self_attn.v_proj": "attention/value",
            "self_attn.out_proj": "attention/out",
            "mlp.fc1": "mlp/up",
            "mlp.fc2": "mlp/down",
        }.items():
            table |= weight_and_bias(f"{source}.{theirs}", f"{block}/{ours}", "linear")
        for half in (1, 2):
            table |= weight_and_bias(
                f"{source}.layer_norm{half}", f"{block}/norm{half}", "as_is"
            )
    return table


def clip_input_size(config: ClipConfig, height: int, width: int) -> tuple[int, int]:
    """Returns the tower's own square, whatever the image's size and aspect."""
    return config.image_size, config.image_size


def _published(name: str, repository: str, config: ClipConfig) -> FoundationModel:
    return FoundationModel(
        name=name,
        repository=repository,
        licence="MIT",
        config=config,
        build=ClipTower,
        key_table=clip_key_table,
        ignored=(
            "text_model.*",
            "text_projection.*",
            "visual_projection.*",
            "logit_scale",
            "*position_ids",
        ),
        prefixes=("module.", "clip.", "vision_model."),
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        input_size=clip_input_size,
    )


CLIP_LARGE = _published("clip", "openai/clip-vit-large-patch14", ClipConfig())
CLIP_BASE = _published(
    "clip_base",
    "openai/clip-vit-base-patch16",
    ClipConfig(patch=16, width=768, num_layers=12, num_heads=12, tap=6),
)
