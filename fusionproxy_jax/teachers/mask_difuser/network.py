"""Mask-DiFuser's network: encoders of two views, and a UNet that attends to both.

Images are [b, h, w, 3] in [-1, 1], sides multiples of `config.stride`. Parameters are
float32; `dtype` is what layers compute in, statistics and softmax excepted.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from fusionproxy_jax.config import MaskDifuserNetConfig
from fusionproxy_jax.diffusion.patches import depth_to_space, space_to_depth
from fusionproxy_jax.teachers.mask_difuser.blocks import (
    Downsample,
    ResidualBlock,
    Upsample,
)
from fusionproxy_jax.teachers.mask_difuser.encoders import (
    ContentEncoder,
    SemanticEncoder,
)
from fusionproxy_jax.teachers.mask_difuser.layers import conv, norm_silu
from fusionproxy_jax.teachers.mask_difuser.plan import Layer, layer_plan

NUM_TIMES = 1000
# Of the mixture head's range, in [-1, 1].
_KNEE = 0.8


class Encoded(NamedTuple):
    """What the denoiser needs of a pair of views; a pytree, batch axis first."""

    # [b, h/p, w/p, c] with p = patch_px.
    content: jax.Array
    # [b, tokens, c] each.
    tokens_a: jax.Array
    tokens_b: jax.Array
    # The views themselves, where the head mixes them.
    view_a: jax.Array | None
    view_b: jax.Array | None


class MaskDifuserNet(nn.Module):
    """Restores one image from two views of it.

    Attributes:
        config: Sizes; the defaults are the published network.
        dtype: Computation dtype.
    """

    config: MaskDifuserNetConfig = MaskDifuserNetConfig()
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Names follow the checkpoint."""
        config, dtype = self.config, self.dtype
        self.content_encoder = ContentEncoder(
            config.content_widths, config.num_groups, dtype
        )
        self.encoder = SemanticEncoder(
            config.semantic_widths,
            config.semantic_layers,
            config.semantic_heads,
            config.semantic_hidden,
            config.num_groups,
            dtype,
        )
        self.time_embedding = TimeEmbedding(config.base_width, dtype)
        self.proj_in = NoisyBranch(
            config.content_widths[-1] // 2, config.num_groups, dtype
        )
        self.head = conv(config.base_width, dtype=dtype, name=None)
        plan = layer_plan(config)
        self.downblocks = [self._build(layer) for layer in plan.downblocks]
        self.middleblocks = [self._build(layer) for layer in plan.middleblocks]
        self.upblocks = [self._build(layer) for layer in plan.upblocks]
        self.tail = Tail(
            (5 if config.head == "mixture" else 3) * config.patch_px**2,
            config.num_groups,
            zero=config.head == "mixture",
            dtype=dtype,
        )

    def _build(self, layer: Layer) -> nn.Module:
        if layer.kind == "down":
            return Downsample(self.dtype)
        if layer.kind == "up":
            return Upsample(self.dtype)
        return ResidualBlock(
            layer.width,
            self.config.num_groups,
            self_attention=layer.self_attention,
            cross_attention=layer.cross_attention,
            dtype=self.dtype,
        )

    def encode(self, view_a: jax.Array, view_b: jax.Array) -> Encoded:
        """Encodes the views; the published order is infrared, then visible."""
        patches = [space_to_depth(v, self.config.patch_px) for v in (view_a, view_b)]
        mixed = self.config.head == "mixture"
        return Encoded(
            self.content_encoder(*patches),
            *self.encoder(*patches),
            view_a=view_a if mixed else None,
            view_b=view_b if mixed else None,
        )

    def denoise(
        self, noisy: jax.Array, index: jax.Array, encoded: Encoded
    ) -> jax.Array:
        """Returns the prediction `config.prediction` names, float32, like `noisy`.

        Args:
          noisy: [b, h, w, 3].
          index: integers [b], positions in the training schedule.
          encoded: of as many images as `noisy`; repeat it for several samples.
        """
        tokens = encoded.tokens_a, encoded.tokens_b
        time = self.time_embedding(index)
        x = self.proj_in(space_to_depth(noisy, self.config.patch_px))
        x = self.head(jnp.concatenate([encoded.content.astype(x.dtype), x], axis=-1))
        skips = [x]
        for block in self.downblocks:
            x = _apply(block, x, time, tokens)
            skips.append(x)
        for block in self.middleblocks:
            x = block(x, time, *tokens)
        for block in self.upblocks:
            if isinstance(block, ResidualBlock):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = _apply(block, x, time, tokens)
        x = depth_to_space(self.tail(x).astype(jnp.float32), self.config.patch_px)
        if self.config.head == "direct":
            return x
        # Where a view shows the scene its gate opens: fine detail takes this way.
        gate_a, gate_b = jnp.split(nn.sigmoid(x[..., 3:]), 2, axis=-1)
        mixed = x[..., :3] + gate_a * encoded.view_a + gate_b * encoded.view_b
        return _bent_to_range(mixed)

    def __call__(
        self, view_a: jax.Array, view_b: jax.Array, noisy: jax.Array, index: jax.Array
    ) -> jax.Array:
        """Encodes and denoises; see `denoise`."""
        return self.denoise(noisy, index, self.encode(view_a, view_b))


def _bent_to_range(images: jax.Array) -> jax.Array:
    """Returns images inside (-1, 1), untouched up to the knee.

    Two views may add up to more than white; clipping would lose what they show there.
    """
    beyond = jnp.maximum(jnp.abs(images) - _KNEE, 0.0)
    bent = jnp.clip(images, -_KNEE, _KNEE)
    return bent + jnp.sign(images) * (1.0 - _KNEE) * jnp.tanh(beyond / (1.0 - _KNEE))


def _apply(block: nn.Module, x: jax.Array, time: jax.Array, tokens) -> jax.Array:
    return block(x, time, *tokens) if isinstance(block, ResidualBlock) else block(x)


class TimeEmbedding(nn.Module):
    """Sines and cosines of the step in turn, then a small perceptron.

    The table is a parameter because the checkpoint holds it; it is not trained.
    """

    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, index: jax.Array) -> jax.Array:
        """Returns [b, 4 * width] of integers [b]."""
        table = self.param(
            "table", lambda _: jnp.asarray(time_table(self.width), jnp.float32)
        )
        x = jax.lax.stop_gradient(table)[index].astype(self.dtype)
        x = nn.silu(nn.Dense(4 * self.width, dtype=self.dtype, name="dense_1")(x))
        return nn.Dense(4 * self.width, dtype=self.dtype, name="dense_3")(x)


def time_table(width: int) -> np.ndarray:
    """Returns [1000, width]: sin, cos, sin, cos, ... of falling frequency."""
    frequencies = np.exp(-math.log(10000.0) * np.arange(0, width, 2) / width)
    angles = np.arange(NUM_TIMES)[:, None] * frequencies[None, :]
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(NUM_TIMES, width)


class NoisyBranch(nn.Module):
    """First layers of the noisy image, before it meets the views' content."""

    width: int
    num_groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, noisy: jax.Array) -> jax.Array:
        """Returns [b, h, w, width]."""
        x = conv(self.width, dtype=self.dtype, name="conv")(noisy.astype(self.dtype))
        return norm_silu(x, self.num_groups, dtype=self.dtype, name="norm")


class Tail(nn.Module):
    """Norm and the last convolution; a `zero` one starts without an effect."""

    width: int
    num_groups: int
    zero: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [b, h, w, width]."""
        x = norm_silu(x, self.num_groups, dtype=self.dtype, name="norm")
        options = {"kernel_init": nn.initializers.zeros} if self.zero else {}
        return conv(self.width, dtype=self.dtype, name="conv", **options)(x)
