"""Attention of Segment Anything's encoder: on a map, with relative positions."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Map = Float[Array, "b h w c"]


class SamAttention(nn.Module):
    """Attention within a map, with decomposed relative positions (Li et al. 2022).

    Attributes:
        num_heads: Heads.
        table_side: Side of the map that the relative positions are stored for.
        dtype: Computation dtype.
    """

    num_heads: int
    table_side: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Returns the projected values, without a residual."""
        b, h, w, c = x.shape
        qkv = nn.Dense(3 * c, dtype=self.dtype, name="qkv")(x)
        qkv = qkv.reshape(b, h, w, 3, self.num_heads, -1)
        query, key, value = (qkv[:, :, :, part] for part in range(3))
        width = query.shape[-1]

        def relative(axis: str, size: int) -> jax.Array:
            shape = (2 * self.table_side - 1, width)
            table = self.param(f"rel_pos_{axis}", nn.initializers.zeros, shape)
            return relative_positions(table, size).astype(self.dtype)

        def product(equation: str, one: jax.Array, other: jax.Array) -> jax.Array:
            return jnp.einsum(equation, one, other, preferred_element_type=jnp.float32)

        # Only the product with keys is scaled, as in the published network.
        scores = width**-0.5 * product("bhwnc,byxnc->bnhwyx", query, key)
        rows = product("bhwnc,hyc->bnhwy", query, relative("h", h))
        columns = product("bhwnc,wxc->bnhwx", query, relative("w", w))
        scores = scores + rows[..., None] + columns[..., None, :]
        weights = jax.nn.softmax(scores, axis=(-2, -1)).astype(self.dtype)
        attended = jnp.einsum("bnhwyx,byxnc->bhwnc", weights, value)
        return nn.Dense(c, dtype=self.dtype, name="out")(attended.reshape(b, h, w, c))


def relative_positions(
    table: Float[Array, "t c"], size: int
) -> Float[Array, "size size c"]:
    """Returns the table's row of every query's distance to every key, on one axis.

    Rows go from the most negative distance, `query - key`, to the largest; for another
    size than the table's, t = 2 size - 1, they are resampled linearly first.
    """
    shape = (2 * size - 1, table.shape[1])
    table = jax.image.resize(table, shape, "linear", antialias=False)
    return table[np.arange(size)[:, None] - np.arange(size) + size - 1]


def in_windows(layer: Callable[[Map], Map], x: Map, side: int) -> Map:
    """Returns the map after `layer` on each of its windows of `side` x `side`.

    Below and to the right, windows are filled up with zeros, which the layer sees.
    """
    b, h, w, c = x.shape
    rows, columns = -(-h // side), -(-w // side)
    x = jnp.pad(x, ((0, 0), (0, rows * side - h), (0, columns * side - w), (0, 0)))
    x = x.reshape(b, rows, side, columns, side, c).transpose(0, 1, 3, 2, 4, 5)
    x = layer(x.reshape(-1, side, side, c))
    x = x.reshape(b, rows, columns, side, side, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, rows * side, columns * side, -1)[:, :h, :w]
