"""Encoders of Mask-DiFuser's views: content for the stem, semantics for attention.

Neither sees the noisy image, so one pass per image serves all steps and samples. Both
views go through shared weights as one batch.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from fusionproxy_jax.teachers.mask_difuser.attention import attend
from fusionproxy_jax.teachers.mask_difuser.layers import conv, group_norm, norm_silu


class ViewMixer(nn.Module):
    """Gate g * a + (1 - g) * b, from the views' global statistics and their features.

    What one view gains the other loses: the weights of both add up to one everywhere.
    """

    num_groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features_a: jax.Array, features_b: jax.Array) -> jax.Array:
        """Returns the mixture of two maps [b, h, w, c]."""
        width = features_a.shape[-1]

        def layer(x, out_width, number):
            x = conv(out_width, 1, dtype=self.dtype, name=f"conv{number}")(x)
            return group_norm(
                x.shape[-1], self.num_groups, dtype=self.dtype, name=f"norm{number}"
            )(x)

        both = jnp.concatenate([features_a, features_b], axis=-1)
        pooled = jnp.concatenate(
            [
                jnp.mean(both, axis=(1, 2), keepdims=True, dtype=jnp.float32).astype(
                    both.dtype
                ),
                jnp.max(both, axis=(1, 2), keepdims=True),
            ],
            axis=-1,
        )
        pooled = layer(nn.silu(layer(pooled, 2 * width, 1)), width, 2)
        local = layer(nn.silu(layer(both, width, 3)), width, 4)
        gate = nn.sigmoid(pooled + local)
        return gate * features_a + (1.0 - gate) * features_b


class ContentEncoder(nn.Module):
    """Fine features of both views in one map."""

    widths: tuple[int, ...]
    num_groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, view_a: jax.Array, view_b: jax.Array) -> jax.Array:
        """Returns [b, h, w, widths[-1] / 2] of views [b, h, w, c]."""
        groups, dtype = self.num_groups, self.dtype
        x = jnp.concatenate([view_a, view_b]).astype(dtype)
        for index, width in enumerate(self.widths):
            if index:
                x = norm_silu(x, groups, dtype=dtype, name=f"conv_{3 * index - 2}")
            x = conv(width, dtype=dtype, name=f"conv_{3 * index}")(x)
        x = ViewMixer(groups, dtype, name="fusion")(*jnp.split(x, 2))
        width = self.widths[-1] // 2
        x = norm_silu(x, groups, dtype=dtype, name="enhance_0")
        x = conv(width, dtype=dtype, name="enhance_2")(x)
        x = norm_silu(x, groups, dtype=dtype, name="enhance_3")
        return conv(width, dtype=dtype, name="enhance_5")(x)


class TransformerLayer(nn.Module):
    """Post-norm layer of Vaswani et al. 2017: attention, then ReLU feed-forward."""

    heads: int
    hidden: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Refines tokens [b, t, c]."""
        batch, tokens, width = x.shape

        def norm(x, name):
            return nn.LayerNorm(
                epsilon=1e-5, dtype=self.dtype, use_fast_variance=False, name=name
            )(x)

        qkv = nn.Dense(3 * width, dtype=self.dtype, name="in_proj")(x)
        heads = qkv.reshape(batch, tokens, 3, self.heads, width // self.heads)
        y = attend(*heads.transpose(2, 0, 3, 1, 4))
        y = y.transpose(0, 2, 1, 3).reshape(batch, tokens, width)
        y = nn.Dense(width, dtype=self.dtype, name="out_proj")(y)
        x = norm(x + y, "norm1")
        y = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name="linear1")(x))
        y = nn.Dense(width, dtype=self.dtype, name="linear2")(y)
        return norm(x + y, "norm2")


class SemanticEncoder(nn.Module):
    """Coarse tokens of each view, which look at all of it; no positional encoding."""

    widths: tuple[int, ...]
    num_layers: int
    heads: int
    hidden: int
    num_groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, view_a: jax.Array, view_b: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns tokens [b, t, widths[-1]] of each view [b, h, w, c].

        Tokens are positions of the map at stride 2^(len(widths) - 1), sides rounded up,
        row by row.
        """
        groups, dtype = self.num_groups, self.dtype
        x = jnp.concatenate([view_a, view_b]).astype(dtype)
        for index, width in enumerate(self.widths):
            if index:
                x = norm_silu(x, groups, dtype=dtype, name=f"conv_{3 * index - 2}")
            x = conv(
                width, stride=2 if index else 1, dtype=dtype, name=f"conv_{3 * index}"
            )(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for index in range(self.num_layers):
            x = TransformerLayer(
                self.heads, self.hidden, dtype, name=f"layers_{index}"
            )(x)
        tokens_a, tokens_b = jnp.split(x, 2)
        return tokens_a, tokens_b
