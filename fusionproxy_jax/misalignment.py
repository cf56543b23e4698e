"""Misalignment injection, Eq. 14: a small random shift and turn of the infrared.

Only the student's input is perturbed; the teacher statistics it is trained on stay
those of the aligned pair. Runs on the device, under jit.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike


class Misalignment(NamedTuple):
    """Where the infrared content of each image of a batch goes."""

    translation_px: Float[Array, "b 2"]
    """Shift of the content to the right and down."""
    rotation_rad: Float[Array, " b"]
    """Turn of the content about the image centre, clockwise as seen."""


def sample_misalignment(
    key: PRNGKeyArray,
    batch_size: int,
    *,
    translation_px: ScalarLike = 10.0,
    rotation_deg: ScalarLike = 2.0,
    probability: ScalarLike = 0.5,
) -> Misalignment:
    """Draws one misalignment per image, Eq. 14.

    Args:
        key: the same key gives the same draw.
        batch_size: number of independent draws.
        translation_px: the two shifts are uniform in [-this, this] and independent.
        rotation_deg: the turn is uniform in [-this, this].
        probability: chance of an image to be perturbed at all; the others get the
            identity.
    """
    translation_key, rotation_key, chance_key = jax.random.split(key, 3)
    chosen = jax.random.bernoulli(chance_key, probability, (batch_size,))
    chosen = chosen.astype(jnp.float32)
    shift = jax.random.uniform(translation_key, (batch_size, 2), minval=-1, maxval=1)
    turn = jax.random.uniform(rotation_key, (batch_size,), minval=-1, maxval=1)
    return Misalignment(
        translation_px=translation_px * shift * chosen[:, None],
        rotation_rad=jnp.deg2rad(rotation_deg * turn) * chosen,
    )


def warp_infrared(
    infrared: Float[Array, "b h w 1"], misalignment: Misalignment
) -> Float[Array, "b h w 1"]:
    """Moves the content of each image, Eq. 14's T applied to the infrared image.

    out(p) = in(R^-1 (p - centre - shift) + centre), bilinear, with the edge repeated
    outside. No motion returns the image bit for bit, a shift by whole pixels its exact
    values.
    """
    warped = jax.vmap(_warp)(infrared[..., 0].astype(jnp.float32), misalignment)
    return warped[..., None].astype(infrared.dtype)


def _warp(image: Float[Array, "h w"], misalignment: Misalignment) -> Array:
    height, width = image.shape
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    shift_x, shift_y = misalignment.translation_px
    # Offsets from the centre stay multiples of one half: exact in float32.
    x = jnp.arange(width, dtype=jnp.float32)[None, :] - centre_x - shift_x
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - centre_y - shift_y
    cosine = jnp.cos(misalignment.rotation_rad)
    sine = jnp.sin(misalignment.rotation_rad)
    source_x = jnp.clip(cosine * x + sine * y + centre_x, 0, width - 1)
    source_y = jnp.clip(cosine * y - sine * x + centre_y, 0, height - 1)

    left = jnp.minimum(source_x.astype(jnp.int32), width - 2)
    top = jnp.minimum(source_y.astype(jnp.int32), height - 2)
    right_share = source_x - left.astype(jnp.float32)
    lower_share = source_y - top.astype(jnp.float32)
    pixels = image.reshape(-1)

    def row(corner: Array) -> Array:
        pair = pixels[corner], pixels[corner + 1]
        return pair[0] * (1 - right_share) + pair[1] * right_share

    corner = top * width + left
    return row(corner) * (1 - lower_share) + row(corner + width) * lower_share
