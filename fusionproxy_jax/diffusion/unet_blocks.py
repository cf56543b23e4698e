"""Residual and attention blocks of guided diffusion (Dhariwal & Nichol 2021).

Submodules carry the reference's names. Statistics of normalisations and of softmax are
in float32 whatever the computation dtype.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fusionproxy_jax.diffusion.unet_layout import Resample

Features = Float[Array, "b h w c"]

# Above this, scores of all queries at once would not fit: 4,800 tokens and 8 heads, a
# 480x640 image at 1/8, are 737 MB per sample.
MAX_QUERIES = 4096
QUERIES_PER_CHUNK = 512


class GroupNorm(nn.Module):
    """Normalises groups of channels over the image; may be modulated per sample.

    The modulation (1 + gain) y + shift joins the affine map, so that the features are
    written once.
    """

    num_groups: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self,
        x: Features,
        gain: Float[Array, "b c"] | None = None,
        shift: Float[Array, "b c"] | None = None,
    ) -> Features:
        """Returns features of unit variance per group, then scaled and shifted."""
        b, _, _, c = x.shape
        scale = self.param("scale", nn.initializers.ones, (c,))[None]
        bias = self.param("bias", nn.initializers.zeros, (c,))[None]
        if gain is not None and shift is not None:
            factor = 1.0 + gain.astype(jnp.float32)
            scale, bias = scale * factor, bias * factor + shift.astype(jnp.float32)

        def group_mean(values: Array) -> Array:
            """Means of [b, h, w, c] over image and group, [b, c]."""
            means = jnp.mean(values, axis=(1, 2)).reshape(b, self.num_groups, -1)
            size = c // self.num_groups
            return jnp.repeat(jnp.mean(means, axis=-1), size, axis=-1)

        centred = x.astype(jnp.float32)
        centred = centred - group_mean(centred)[:, None, None]
        variance = group_mean(jnp.square(centred))
        scale = scale * jax.lax.rsqrt(variance + self.epsilon)
        y = centred * scale[:, None, None] + bias[:, None, None]
        return y.astype(x.dtype)


class ResidualBlock(nn.Module):
    """Two convolutions around a modulation by the noise level, and a skip.

    Attributes:
        width: Channels of the output.
        num_groups: Groups of both normalisations.
        resample: Halves or doubles the size, by averages of 2x2 or by repetition,
            before the first convolution and in the skip.
        dtype: Computation dtype.
    """

    width: int
    num_groups: int
    resample: Resample = "none"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Features, embedding: Float[Array, "b e"]
    ) -> Float[Array, "b h_out w_out c_out"]:
        """Returns skip(x) + h; h is 0 in a new block."""
        h = nn.silu(GroupNorm(self.num_groups, name="in_layers_0")(x))
        h, x = resampled(h, self.resample), resampled(x, self.resample)
        h = conv3x3(self.width, self.dtype, name="in_layers_2")(h)
        modulation = nn.Dense(2 * self.width, dtype=self.dtype, name="emb_layers_1")(
            nn.silu(embedding)
        )
        gain, shift = jnp.split(modulation, 2, axis=-1)
        h = nn.silu(GroupNorm(self.num_groups, name="out_layers_0")(h, gain, shift))
        h = conv3x3(self.width, self.dtype, zero=True, name="out_layers_3")(h)
        if x.shape[-1] != self.width:
            x = nn.Conv(
                self.width,
                (1, 1),
                padding=((0, 0), (0, 0)),
                dtype=self.dtype,
                name="skip_connection",
            )(x)
        return x + h


class AttentionBlock(nn.Module):
    """Every pixel attends to every pixel; residual.

    The 3c channels of `qkv` are in the reference's first order: heads, then q, k and v
    within each head.
    """

    head_width: int
    num_groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Returns x + projection; a new block is the identity."""
        b, h, w, c = x.shape
        tokens = GroupNorm(self.num_groups, name="norm")(x).reshape(b, h * w, c)
        qkv = nn.Dense(3 * c, dtype=self.dtype, name="qkv")(tokens)
        attended = attend(*split_heads(qkv, self.head_width)).reshape(b, h, w, c)
        return x + nn.Dense(
            c, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="proj_out"
        )(attended)


def split_heads(
    qkv: Float[Array, "b t c3"], head_width: int
) -> tuple[Float[Array, "b t n d"], Float[Array, "b t n d"], Float[Array, "b t n d"]]:
    """Returns queries, keys and values of n heads from the order (head, q k v, d)."""
    b, t, _ = qkv.shape
    heads = qkv.reshape(b, t, -1, 3, head_width)
    return heads[..., 0, :], heads[..., 1, :], heads[..., 2, :]


def attend(
    query: Float[Array, "b t n d"],
    key: Float[Array, "b t n d"],
    value: Float[Array, "b t n d"],
    *,
    max_queries: int = MAX_QUERIES,
    queries_per_chunk: int = QUERIES_PER_CHUNK,
) -> Float[Array, "b t n d"]:
    """Returns softmax(q k / sqrt(d)) v per head.

    More than `max_queries` are taken in chunks, which bounds memory and changes
    nothing else.
    """
    root = query.shape[-1] ** -0.25
    # Each by the fourth root, which keeps products in range in low precision.
    query, key = query * root, key * root

    def weighted(query: Array) -> Array:
        """Values [b, n, d] for one query [b, n, d]; vectorised over queries."""
        scores = jnp.einsum(
            "bnd,bsnd->bns", query, key, preferred_element_type=jnp.float32
        )
        weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
        return jnp.einsum("bns,bsnd->bnd", weights, value)

    if query.shape[1] <= max_queries:
        return jax.vmap(weighted, in_axes=1, out_axes=1)(query)
    chunked = jax.lax.map(
        weighted, jnp.moveaxis(query, 1, 0), batch_size=queries_per_chunk
    )
    return jnp.moveaxis(chunked, 0, 1)


def resampled(x: Features, resample: Resample) -> Float[Array, "b h_out w_out c"]:
    """Returns averages of 2x2 pixels, or every pixel as 2x2, or `x`."""
    b, h, w, c = x.shape
    if resample == "down":
        return jnp.mean(x.reshape(b, h // 2, 2, w // 2, 2, c), axis=(2, 4))
    if resample == "up":
        repeated = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
        return repeated.reshape(b, 2 * h, 2 * w, c)
    return x


def conv3x3(width: int, dtype: DTypeLike, *, zero: bool = False, name: str) -> nn.Conv:
    """Returns a convolution that keeps the size; `zero` starts it at 0."""
    return nn.Conv(
        width,
        (3, 3),
        padding=((1, 1), (1, 1)),
        dtype=dtype,
        kernel_init=nn.initializers.zeros if zero else nn.initializers.lecun_normal(),
        name=name,
    )
