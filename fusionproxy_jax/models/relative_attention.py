"""Attention of EfficientFormerV2 over feature maps of any size (Li et al. 2023).

The published network learns one bias per head and offset between two places, for the
offsets of a 224x224 image. Here offsets past the table take its last entry: the bias
depends on the distance alone, the same at every image size, and at the published size
it is the published one. Stretching the table to the map instead would change what a
neighbour's bias means with the size.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from fusionproxy_jax.models import resampling
from fusionproxy_jax.models.activation import activate
from fusionproxy_jax.models.conv_norm import ConvNorm
from fusionproxy_jax.models.depthwise import DepthwiseConv
from fusionproxy_jax.models.layer_style import LayerStyle

Features = Float[Array, "b _ _ _"]
Heads = Float[Array, "b heads _ _"]

HEADS = 8
# Widths per head: keys of blocks, keys of downsampling; values are four times as wide.
BLOCK_KEY_WIDTH = 32
DOWNSAMPLE_KEY_WIDTH = 16
VALUE_RATIO = 4
# Side of the bias tables: maps of 7x7 in blocks at 224x224, keys of 14x14 in
# downsampling.
BLOCK_REACH = 7
DOWNSAMPLE_REACH = 14


def _split_heads(x: Features) -> Heads:
    """Returns [b, head, place, channel of the head]."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height * width, HEADS, channels // HEADS).transpose(
        0, 2, 1, 3
    )


def _every_other(x: Features) -> Features:
    """Returns each second row and column; indexing would export as a gather."""
    return jax.lax.slice(x, (0, 0, 0, 0), x.shape, (1, 2, 2, 1))


def _offsets(queries: Any, keys: Any, step: int, reach: int) -> Int[Array, "_ _"]:
    """Returns distances along one axis, at most `reach - 1`; sides may be symbolic."""
    query = step * jax.lax.broadcasted_iota(jnp.int32, (queries, keys), 0)
    key = jax.lax.broadcasted_iota(jnp.int32, (queries, keys), 1)
    return jnp.minimum(jnp.abs(query - key), reach - 1)


class RelativeBias(nn.Module):
    """A learned bias per head for each offset between query and key.

    Attributes:
        reach: Offsets with an entry of their own: 0 to `reach - 1` along either axis.
        step: Keys between neighbouring queries.
    """

    reach: int
    step: int = 1

    @nn.compact
    def __call__(self, queries: Features, keys: Features) -> Float[Array, "1 h q k"]:
        """Returns the bias of every query for every key; of both only sizes count."""
        table = self.param(
            "table", nn.initializers.zeros, (HEADS, self.reach, self.reach)
        )
        rows, columns = (
            _offsets(queries.shape[axis], keys.shape[axis], self.step, self.reach)
            for axis in (1, 2)
        )
        index = rows[:, None, :, None] * self.reach + columns[None, :, None, :]
        places = (queries.shape[1] * queries.shape[2], keys.shape[1] * keys.shape[2])
        flat = table.reshape(HEADS, self.reach**2)
        return jnp.take(flat, index.reshape(places), axis=1)[None]


class TalkingHeads(nn.Module):
    """Mixes the heads' attention maps, with a bias per head."""

    @nn.compact
    def __call__(self, maps: Heads) -> Heads:
        """Returns as many mixed maps."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (HEADS, HEADS))
        bias = self.param("bias", nn.initializers.zeros, (HEADS,))
        batch, _, queries, keys = maps.shape
        flat = maps.reshape(batch, HEADS, queries * keys)
        mixed = jnp.matmul(kernel.T.astype(maps.dtype)[None], flat)
        mixed = mixed.reshape(batch, HEADS, queries, keys)
        return mixed + bias.astype(maps.dtype).reshape(1, -1, 1, 1)


def _attend(
    query: Features,
    key: Features,
    value: Features,
    bias: Float[Array, "1 h q k"],
    mix: Callable[[str, Heads], Heads],
) -> Features:
    """Returns the values each query attends to, as a map of the queries' size."""
    batch, height, width, channels = query.shape
    scale = (channels // HEADS) ** -0.5
    scores = jnp.matmul(_split_heads(query), _split_heads(key).swapaxes(2, 3))
    scores = mix("before_softmax", scores * scale + bias.astype(scores.dtype))
    weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1)
    weights = mix("after_softmax", weights.astype(value.dtype))
    attended = jnp.matmul(weights, _split_heads(value)).transpose(0, 2, 1, 3)
    return attended.reshape(batch, height, width, value.shape[-1])


class MapAttention(nn.Module):
    """Self-attention with talking heads and a local path for the values (Sec. 3.3).

    Attributes:
        style: See `LayerStyle`.
        strided: Attends at half the size and doubles the result (Sec. 3.4).
        upsample: Doubles the size of a map.
    """

    style: LayerStyle
    strided: bool = False
    upsample: Callable[[jax.Array], jax.Array] = resampling.upsample

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Returns the branch of a residual block, of the shape of `x`."""
        channels = x.shape[-1]

        def layer(name: str, inputs: Features, **options: int) -> Features:
            return ConvNorm(self.style, activated=False, name=name, **options)(inputs)

        if self.strided:
            x = layer("halve", x, kernel_size=3, stride=2)
        query = layer("query", x, features=HEADS * BLOCK_KEY_WIDTH)
        key = layer("key", x, features=HEADS * BLOCK_KEY_WIDTH)
        value = layer("value", x, features=VALUE_RATIO * HEADS * BLOCK_KEY_WIDTH)
        local = layer("local_value", value, kernel_size=3)
        bias = RelativeBias(BLOCK_REACH, name="bias")(query, key)
        y = local + _attend(
            query, key, value, bias, lambda name, maps: TalkingHeads(name=name)(maps)
        )
        if self.strided:
            y = self.upsample(y)
        return layer("project", activate(y, self.style.activation), features=channels)


class AttentionDownsample(nn.Module):
    """The attention path of dual-path downsampling (Sec. 3.5).

    Attributes:
        style: See `LayerStyle`.
        features: Output channels.
    """

    style: LayerStyle
    features: int

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Returns a map of half the size."""
        style = self.style

        def layer(name: str, inputs: Features, **options: int) -> Features:
            return ConvNorm(style, activated=False, name=name, **options)(inputs)

        key_width = HEADS * DOWNSAMPLE_KEY_WIDTH
        local = DepthwiseConv(
            3, stride=2, dtype=style.dtype, grouped=style.grouped, name="local_query"
        )(x)
        query = layer("query", local + _every_other(x), features=key_width)
        key = layer("key", x, features=key_width)
        value = layer("value", x, features=VALUE_RATIO * key_width)
        local = layer("local_value", value, kernel_size=3, stride=2)
        bias = RelativeBias(DOWNSAMPLE_REACH, step=2, name="bias")(query, key)
        y = local + _attend(query, key, value, bias, lambda _, maps: maps)
        activated = activate(y, style.activation)
        return layer("project", activated, features=self.features)
