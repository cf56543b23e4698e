"""Luminance and colour of teacher samples: BT.601, and how grey samples get colour.

Diffusion teachers fuse luminance only; the colour of a sample is the visible image's.
"""

import jax
import jax.numpy as jnp

_LUMA = (0.299, 0.587, 0.114)


def luma(image: jax.Array) -> jax.Array:
    """Returns full-range BT.601 luminance [..., h, w] of RGB [..., h, w, 3]."""
    red, green, blue = (image[..., c] * weight for c, weight in enumerate(_LUMA))
    return red + green + blue


def to_studio(luminance: jax.Array) -> jax.Array:
    """Maps g to (16 + 219 g) / 255, the quirk of released DDFM.

    That is the studio-range matrix for [0, 1], there applied to data in [-1, 1]: it
    shifts the prior's estimate against the sources by up to 0.2.
    """
    return (16.0 + 219.0 * luminance) / 255.0


def from_studio(luminance: jax.Array) -> jax.Array:
    """Inverse of `to_studio`."""
    return (255.0 * luminance - 16.0) / 219.0


@jax.jit
def recolour(luminance: jax.Array, visible: jax.Array) -> jax.Array:
    """Returns RGB with the given luminance and the visible image's Cb and Cr.

    Cb and Cr are differences to luminance, so keeping them means adding one number to
    R, G and B. Where that leaves [0, 1], chroma is scaled down until it fits: clipping
    instead would change hue and luminance, which shows as fringes at edges.

    Args:
      luminance: [..., h, w] in [0, 1].
      visible: RGB [h, w, 3] in [0, 1].

    Returns:
      [..., h, w, 3] in [0, 1], of exactly that luminance.
    """
    chroma = visible - luma(visible)[..., None]
    highest = jnp.max(chroma, axis=-1)
    lowest = jnp.min(chroma, axis=-1)
    extra = luminance.ndim - highest.ndim
    lead = (1,) * extra
    room_up = (1.0 - luminance) / jnp.maximum(highest, 1e-6).reshape(
        *lead, *highest.shape
    )
    room_down = luminance / jnp.maximum(-lowest, 1e-6).reshape(*lead, *lowest.shape)
    share = jnp.minimum(jnp.minimum(room_up, room_down), 1.0)
    rgb = luminance[..., None] + share[..., None] * chroma.reshape(*lead, *chroma.shape)
    return jnp.clip(rgb, 0.0, 1.0)
