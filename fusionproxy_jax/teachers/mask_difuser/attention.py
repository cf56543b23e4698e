"""Attention of Mask-DiFuser's blocks: to the map itself, and to both views in turn.

Maps are [b, h, w, c], a view's tokens [b, t, c]. Submodules carry the checkpoint's
names.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from fusionproxy_jax.teachers.mask_difuser.layers import conv, group_norm

# Scores of one image that are held at once; more are done in blocks of queries.
MAX_SCORES = 2**24


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, *, max_scores: int = MAX_SCORES
) -> jax.Array:
    """Returns softmax(query key^T / sqrt(c)) value, all [b, heads, tokens, c].

    Softmax in float32. Above `max_scores` scores per image, blocks of queries follow
    each other; the result is the same.
    """
    num_queries, width = query.shape[2:]
    query = query * width**-0.5
    num_blocks = -(-query.shape[1] * num_queries * key.shape[2] // max_scores)
    block = -(-num_queries // num_blocks)

    def replace(queries: jax.Array, start: int | jax.Array, size: int) -> jax.Array:
        part = jax.lax.dynamic_slice_in_dim(queries, start, size, axis=2)
        part = _attend_block(part, key, value)
        return jax.lax.dynamic_update_slice_in_dim(queries, part, start, axis=2)

    if num_blocks == 1:
        return _attend_block(query, key, value)
    # Results take their queries' place: a loop that fills a new array has it reserved
    # from the start of the program, and there is one such loop per attention.
    full = num_queries // block
    query = jax.lax.fori_loop(0, full, lambda i, q: replace(q, i * block, block), query)
    rest = num_queries - full * block
    return replace(query, full * block, rest) if rest else query


def _attend_block(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    scores = jnp.einsum(
        "bnqc,bnkc->bnqk", query, key, preferred_element_type=jnp.float32
    )
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bnqk,bnkc->bnqc", weights, value)


def _attend_map(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Single-head attention of a map [b, h, w, c] to tokens [b, ..., c]."""
    tokens = [x.reshape(x.shape[0], 1, -1, x.shape[-1]) for x in (query, key, value)]
    return attend(*tokens).reshape(*query.shape[:-1], value.shape[-1])


class SelfAttention(nn.Module):
    """Single-head attention over all positions, with a residual."""

    num_groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Refines `x`, keeping its shape."""
        width = x.shape[-1]
        norm = group_norm(width, self.num_groups, dtype=self.dtype, name="group_norm")
        y = norm(x)
        query, key, value = (
            conv(width, 1, dtype=self.dtype, name=f"proj_{part}")(y) for part in "qkv"
        )
        y = _attend_map(query, key, value)
        return x + conv(width, 1, dtype=self.dtype, name="proj")(y)


class CrossAttention(nn.Module):
    """Double-order attention to two conditions, one set of weights, no residual.

    With CA(h, f) attending from the map h to the tokens f it gives CA(CA(h, a), b) and
    CA(CA(h, b), a).
    """

    num_groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, tokens_a: jax.Array, tokens_b: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns both orders, each of the shape of `x`."""
        width, dtype = x.shape[-1], self.dtype
        norm_cond, norm_x = (
            group_norm(size, self.num_groups, dtype=dtype, name=name)
            for name, size in (("norm_cond", tokens_a.shape[-1]), ("norm_x", width))
        )
        to_query, to_key, to_value = (
            conv(width, 1, dtype=dtype, name=name)
            for name in ("proj_q", "proj_k1", "proj_v1")
        )
        # Each layer's weights serve four times, but what depends on one condition
        # alone, or on `x` alone, is computed once.
        conditions = []
        for tokens in (tokens_a, tokens_b):
            tokens = norm_cond(tokens)[:, :, None, :]
            conditions.append((to_key(tokens), to_value(tokens)))
        query = to_query(norm_x(x))
        first_a, first_b = (_attend_map(query, *each) for each in conditions)
        return (
            _attend_map(to_query(norm_x(first_a)), *conditions[1]),
            _attend_map(to_query(norm_x(first_b)), *conditions[0]),
        )
