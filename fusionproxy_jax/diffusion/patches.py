"""Squares of pixels as channels, and back: what makes a compact network fast."""

from jaxtyping import Array, Float


def space_to_depth(
    x: Float[Array, "b h w c"], side: int
) -> Float[Array, "b h_out w_out c_out"]:
    """Returns every `side` x `side` square as one pixel of side^2 c channels.

    Channels are ordered by row in the square, column in the square, channel.
    """
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // side, w // side, -1)


def depth_to_space(
    x: Float[Array, "b h w c"], side: int
) -> Float[Array, "b h_out w_out c_out"]:
    """The inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, side, side, c // side**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * side, w * side, -1)
