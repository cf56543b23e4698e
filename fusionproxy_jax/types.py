"""Array types of the package: float images in [0, 1], channels last.

Axis letters are fixed everywhere: b batch, n teacher sample, k backbone, h w, c.
"""

from jaxtyping import Array, Float

Image = Float[Array, "b h w 3"]
"""RGB images, float, [0, 1]."""

Infrared = Float[Array, "b h w 1"]
"""Infrared intensity, float, [0, 1]; larger is warmer."""
