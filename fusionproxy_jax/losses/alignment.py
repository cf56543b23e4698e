"""Multi-foundation alignment, Eq. 10.

Features are divided by their channel scale and lie on each backbone's own grid; the
loss is taken on the grid of the routing weights. The k backbones come in one order
everywhere, with as many channels as each one has.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

ChannelNorm = Literal["mean", "sum"]


class Alignment(NamedTuple):
    """What Eq. 10 compares, for a batch; `alignment_loss` takes the same three."""

    features: tuple[Float[Array, "b _ _ _"], ...]
    """Scaled features of the fused image, one map a backbone, on its own grid."""
    target: tuple[Float[Array, "b _ _ _"], ...]
    """Mean of scaled features over teacher samples, Eq. 9, on the same grids."""
    weights: Float[Array, "b k h w"]
    """Routing weights on the common grid, Eq. 8; gradients go through them."""


def alignment_loss(
    features: tuple[Float[Array, "b _ _ _"], ...],
    target: tuple[Float[Array, "b _ _ _"], ...],
    weights: Float[Array, "b k h w"],
    *,
    norm: ChannelNorm = "mean",
) -> Float32[Array, " b"]:
    """Routed squared feature distance, Eq. 10: mean_p sum_k W_k |Phi_k - target_k|^2.

    Args:
        features: scaled features of the fused image, one map a backbone.
        target: mean scaled features of the teacher samples, Eq. 9, on the same grids.
        weights: routing weights, Eq. 8; their grid is the common one.
        norm: see `feature_distances`.

    Raises:
        ValueError: the three do not name the same number of backbones, or a feature
            map and its target differ in shape.
    """
    if len(features) != weights.shape[1]:
        raise ValueError(
            f"features of {len(features)} and weights of {weights.shape[1]} backbones; "
            "both need the same backbones"
        )
    distances = feature_distances(features, target, weights.shape[2:], norm=norm)
    return jnp.mean(jnp.sum(_float32(weights) * distances, axis=1), axis=(1, 2))


def feature_distances(
    features: tuple[Float[Array, "b _ _ _"], ...],
    target: tuple[Float[Array, "b _ _ _"], ...],
    grid: tuple[int, int],
    *,
    norm: ChannelNorm = "mean",
) -> Float32[Array, "b k h w"]:
    """Squared distance of every backbone at every place of the grid, as in Eq. 10.

    Args:
        features: scaled features of the fused image, one map a backbone.
        target: mean scaled features of the teacher samples, Eq. 9, on the same grids.
        grid: height and width of the common grid, to which the differences are
            resampled bilinearly (half-pixel centres, no antialiasing); that is
            resampling both, which is linear.
        norm: "mean" takes the squared norm as the mean over a backbone's channels:
            they have unit variance, so the paper's literal "sum" grows with the width
            of the backbone, to a thousand times the other terms.

    Raises:
        ValueError: another number of targets, or a target of another shape.
    """
    if len(features) != len(target):
        raise ValueError(
            f"features of {len(features)} and targets of {len(target)} backbones; "
            "both need the same backbones"
        )
    distances = []
    for index, (ours, theirs) in enumerate(zip(features, target, strict=True)):
        if ours.shape != theirs.shape:
            raise ValueError(
                f"features of backbone {index} are {list(ours.shape)}, their target is "
                f"{list(theirs.shape)}; both come from images of one size"
            )
        distance = _resampled_square(_float32(ours) - _float32(theirs), grid)
        distances.append(distance * (ours.shape[-1] if norm == "sum" else 1.0))
    return jnp.stack(distances, axis=1)


def _resampled_square(
    difference: Float32[Array, "b _ _ c"], grid: tuple[int, int]
) -> Float32[Array, "b h w"]:
    """Mean over channels of the square of `difference`, resampled to `grid`.

    A resampled value is s_0 d_0 + s_1 d_1 of two neighbours along each axis, so its
    square needs the channel products of neighbours only. Those stay on the backbone's
    grid: for 1024 channels of 16x16, the 64x64 map of differences is never made.
    """
    if difference.shape[1:3] == grid:
        return _dot(difference, difference)
    upper, lower = difference[:, :-1], difference[:, 1:]
    left, right = difference[:, :, :-1], difference[:, :, 1:]
    crossing = _dot(upper[:, :, :-1], lower[:, :, 1:])
    crossing += _dot(upper[:, :, 1:], lower[:, :, :-1])
    products = jnp.block(
        [
            [_dot(difference, difference), _dot(left, right)],
            [_dot(upper, lower), 0.5 * crossing],
        ]
    )
    rows, columns = map(_squared_shares, difference.shape[1:3], grid)
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("hy,byx,wx->bhw", rows, products, columns, precision=highest)


def _squared_shares(source: int, length: int) -> np.ndarray:
    """Returns [length, 2 source - 1]: s_i^2 of source places, 2 s_i s_(i+1) of pairs.

    s are the shares that source places have in a place resampled bilinearly, at half
    pixels and without antialiasing.
    """
    centres = (np.arange(length) + 0.5) * source / length - 0.5
    offset = np.clip(centres, 0, source - 1)[:, None] - np.arange(source)
    shares = np.maximum(1 - np.abs(offset), 0)
    pairs = 2 * shares[:, :-1] * shares[:, 1:]
    return np.concatenate([np.square(shares), pairs], axis=1, dtype=np.float32)


def _dot(
    first: Float32[Array, "b y x c"], second: Float32[Array, "b y x c"]
) -> Float32[Array, "b y x"]:
    return jnp.mean(first * second, axis=-1)


def _float32(array: Array) -> Array:
    return array.astype(jnp.float32)
