"""Pieces that ports of vision transformers share (Dosovitskiy et al. 2021).

Products are computed in `dtype`; statistics of norms and of softmax in float32.
"""

from collections.abc import Callable
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Tokens = Float[Array, "b t c"]

# Transform of a module's weight -> name of that parameter in Flax.
_WEIGHT_NAMES = MappingProxyType(
    {"conv": "kernel", "linear": "kernel", "as_is": "scale"}
)


class Attention(nn.Module):
    """Every token attends to every token: softmax(q k / sqrt(d)) v per head."""

    num_heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        """Returns the projected values, without a residual."""
        b, t, c = x.shape
        query, key, value = (
            nn.Dense(c, dtype=self.dtype, name=name)(x).reshape(
                b, t, self.num_heads, -1
            )
            for name in ("query", "key", "value")
        )
        attended = jax.nn.dot_product_attention(query, key, value)
        return nn.Dense(c, dtype=self.dtype, name="out")(attended.reshape(b, t, c))


class Mlp(nn.Module):
    """Two dense layers around an activation."""

    width: int
    activation: Callable[[jax.Array], jax.Array]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*t c"]) -> Float[Array, "*t c"]:
        """Returns features of the input's shape; `width` is that in between."""
        y = self.activation(nn.Dense(self.width, dtype=self.dtype, name="up")(x))
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="down")(y)


class LayerScale(nn.Module):
    """One learned factor a channel (Touvron et al. 2021)."""

    @nn.compact
    def __call__(self, x: Float[Array, "*t c"]) -> Float[Array, "*t c"]:
        """Returns the scaled features."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        return x * scale.astype(x.dtype).reshape((1,) * (x.ndim - 1) + scale.shape)


class EncoderBlock(nn.Module):
    """Pre-norm transformer block: x + attention, then x + MLP.

    Attributes:
        num_heads: Heads of the attention.
        mlp_width: Channels inside the MLP.
        activation: Of the MLP.
        epsilon: Of both norms.
        layer_scale: Whether both branches end in a `LayerScale`.
        dtype: Computation dtype.
    """

    num_heads: int
    mlp_width: int
    activation: Callable[[jax.Array], jax.Array]
    epsilon: float
    layer_scale: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        """Refines `x`, keeping its shape."""
        y = layer_norm(self.epsilon, self.dtype, name="norm1")(x)
        y = Attention(self.num_heads, self.dtype, name="attention")(y)
        x = x + (LayerScale(name="layer_scale1")(y) if self.layer_scale else y)
        y = layer_norm(self.epsilon, self.dtype, name="norm2")(x)
        y = Mlp(self.mlp_width, self.activation, self.dtype, name="mlp")(y)
        return x + (LayerScale(name="layer_scale2")(y) if self.layer_scale else y)


def layer_norm(epsilon: float, dtype: DTypeLike, *, name: str) -> nn.LayerNorm:
    """Returns a norm over channels, as torch computes it."""
    # Flax's default, mean of squares less square of mean, loses what the large
    # activations of these networks leave of float32.
    return nn.LayerNorm(
        epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name
    )


def resample_positions(
    table: Float[Array, "gh gw c"], size: tuple[int, int]
) -> Float[Array, "h w c"]:
    """Returns learned positions on another grid, float32.

    Equal to torch's `interpolate(mode="bicubic", align_corners=False)`: Keys' kernel
    with a = -3/4 (`jax.image.resize` has -1/2 for "cubic"), half-pixel centres, edges
    repeated, no antialiasing. The table's own size returns the table.
    """
    table = table.astype(jnp.float32)
    if table.shape[:2] == size:
        return table
    rows, columns = (
        jnp.asarray(_bicubic(old, new))
        for old, new in zip(table.shape[:2], size, strict=True)
    )
    return jnp.einsum(
        "hy,wx,yxc->hwc", rows, columns, table, precision=jax.lax.Precision.HIGHEST
    )


def _bicubic(old: int, new: int) -> np.ndarray:
    """Returns the weights [new, old] of the old places in each new one."""
    places = (np.arange(new) + 0.5) * old / new - 0.5
    taps = np.floor(places)[:, None] + np.arange(-1, 3)
    d = np.abs(places[:, None] - taps)
    a = -0.75
    near = ((a + 2) * d - (a + 3)) * d**2 + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    weights = np.zeros((new, old))
    clamped = np.clip(taps, 0, old - 1).astype(int)
    # Several taps fall on one place at an edge: their weights add.
    np.add.at(weights, (np.arange(new)[:, None], clamped), np.where(d <= 1, near, far))
    return weights.astype(np.float32)


def weight_and_bias(
    source: str, path: str, transform: str
) -> dict[str, tuple[str, str]]:
    """Returns the two rules of one module for a table of `conversion_plan`.

    Args:
        source: The module in the checkpoint, `encoder.layer.0.norm1`.
        path: The module here, `block_1/norm1`.
        transform: `conv`, `linear`, or `as_is` for a norm.
    """
    return {
        f"{source}.weight": (f"{path}/{_WEIGHT_NAMES[transform]}", transform),
        f"{source}.bias": (f"{path}/bias", "as_is"),
    }
