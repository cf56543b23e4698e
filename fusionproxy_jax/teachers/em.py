"""DDFM's rectification: one expectation-maximisation step per diffusion step.

The fused luminance f minimises |f - a|_1 + phi |f - b|_1 over the sources a, b. With
Y = a - b and X = f - b each Laplace term is a Gaussian of unknown variance: the E-step
gives the weights of closeness, C to a and D to b, and the M-step is a weighted least
squares with a smoothness term, solved by one half-quadratic sweep. All in [-1, 1].

Three variants are kept side by side, because the released code is not its paper:

- `released`: sources exchanged and result a - X where the derivation gives b + X. It is
  the mirror image of the EM solution, and its stable point is the plain average.
- `paper`: the derivation as printed, one scale per source. The source that is closer
  gets the larger weight, so it drifts to one source.
- `balanced`: ours. One shared scale and weights limited to a ratio of three keep both
  sources; the smoothness term is large enough to act.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True, kw_only=True)
class EMVariant:
    """What distinguishes the variants; see the module docstring."""

    # a is the visible image and the result is a - X; else a is infrared, result b + X.
    mirrored: bool
    shared_scale: bool
    # Largest D / C and C / D.
    max_visible_ratio: float
    max_infrared_ratio: float
    # eta_c and psi of the half-quadratic sweep.
    coupling: float
    smoothness: float


EM_VARIANTS = MappingProxyType(
    {
        "released": EMVariant(
            mirrored=True,
            shared_scale=False,
            max_visible_ratio=2.0,
            max_infrared_ratio=np.inf,
            coupling=0.001,
            smoothness=0.5,
        ),
        "paper": EMVariant(
            mirrored=False,
            shared_scale=False,
            max_visible_ratio=np.inf,
            max_infrared_ratio=np.inf,
            coupling=0.1,
            smoothness=0.5,
        ),
        "balanced": EMVariant(
            mirrored=False,
            shared_scale=True,
            max_visible_ratio=3.0,
            max_infrared_ratio=3.0,
            coupling=10.0,
            smoothness=0.5,
        ),
    }
)


class EMState(NamedTuple):
    """Carried along the chain, one entry per sample."""

    scale_a: jax.Array  # [n]
    scale_b: jax.Array  # [n]
    gradient_x: jax.Array  # [n, h, w]
    gradient_y: jax.Array  # [n, h, w]


def first_state(num_samples: int, height: int, width: int) -> EMState:
    """Returns scales of one and no gradients."""
    ones = jnp.ones(num_samples)
    zeros = jnp.zeros((num_samples, height, width))
    return EMState(ones, ones, zeros, zeros)


def closeness(
    towards_a: jax.Array, towards_b: jax.Array, scale_a: jax.Array, scale_b: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """E-step: weights C and D, E[1/variance] = sqrt(2 / scale) / |distance|.

    Args:
      towards_a: a - f, [n, h, w].
      towards_b: f - b, [n, h, w].
      scale_a: [n].
      scale_b: [n].
    """
    scale_a, scale_b = scale_a[:, None, None], scale_b[:, None, None]
    to_a = jnp.sqrt(2.0 / (scale_a * (jnp.square(towards_a) + 1e-6)))
    to_b = jnp.sqrt(2.0 / (scale_b * (jnp.square(towards_b) + 1e-6)))
    return to_a, to_b


def next_scale(weight: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns the image mean of E[variance] = 1 / weight + scale / 2, per sample."""
    return jnp.mean(1.0 / (weight + 1e-10), axis=(1, 2)) + scale / 2.0


def make_em_rectifier(infrared: jax.Array, visible: jax.Array, *, mode: str):
    """Returns rectify(f [n, h, w], state, keys) -> (f, state) of a variant.

    Args:
      infrared: luminance [h, w] in [-1, 1].
      visible: luminance [h, w] in [-1, 1].
      mode: `released`, `paper` or `balanced`.
    """
    variant = EM_VARIANTS[mode]
    source_a, source_b = (
        (visible, infrared) if variant.mirrored else (infrared, visible)
    )
    source_a, source_b = source_a[None], source_b[None]
    gap = source_a - source_b
    height, width = infrared.shape
    gradient_x, gradient_y = _difference_spectra(height, width)
    smoother = 1.0 / (1.0 + abs(gradient_x) ** 2 + abs(gradient_y) ** 2)
    coupling = variant.coupling
    shrink = coupling / (2.0 * variant.smoothness + coupling)

    def rectify(fused, state, keys):
        del keys
        x = fused - source_b
        to_a, to_b = closeness(gap - x, x, state.scale_a, state.scale_b)
        if variant.mirrored:
            # The released guard stands inside the square on this side only.
            shifted = jnp.square(gap - x + 1e-6)
            to_a = jnp.sqrt(2.0 / (state.scale_a[:, None, None] * shifted))
        if np.isfinite(variant.max_infrared_ratio):
            to_a, to_b = (
                jnp.minimum(to_a, variant.max_infrared_ratio * to_b),
                jnp.minimum(to_b, variant.max_visible_ratio * to_a),
            )
        elif np.isfinite(variant.max_visible_ratio):
            to_b = jnp.minimum(to_b, variant.max_visible_ratio * to_a)
        scale_a = next_scale(to_a, state.scale_a)
        scale_b = next_scale(to_b, state.scale_b)
        if variant.shared_scale:
            scale_a = scale_b = (scale_a + scale_b) / 2.0

        # The released code smooths the distance to a, which with its exchanged sources
        # is the same quantity as the distance to b elsewhere: f - visible.
        distance = gap - x if variant.mirrored else x
        spectrum = jnp.fft.rfft2(distance)
        spectrum += gradient_x.conj() * jnp.fft.rfft2(state.gradient_x)
        spectrum += gradient_y.conj() * jnp.fft.rfft2(state.gradient_y)
        smooth = jnp.fft.irfft2(spectrum * smoother, s=(height, width))
        difference_x, difference_y = (
            _released_differences(smooth)
            if variant.mirrored
            else _circular_differences(smooth)
        )
        pull = gap - smooth if variant.mirrored else smooth
        x = (2 * to_a * gap + coupling * pull) / (2 * to_a + 2 * to_b + coupling)
        state = EMState(scale_a, scale_b, shrink * difference_x, shrink * difference_y)
        return (source_a - x if variant.mirrored else source_b + x), state

    return rectify


def _difference_spectra(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns exp(i w) - 1 along x and y on the rfft2 grid, [1, h, w // 2 + 1]."""
    rows = np.exp(2j * np.pi * np.fft.fftfreq(height)) - 1.0
    columns = np.exp(2j * np.pi * np.fft.rfftfreq(width)) - 1.0
    grid = np.ones((height, columns.size))
    return (
        (grid * columns[None])[None].astype(np.complex64),
        (grid * rows[:, None])[None].astype(np.complex64),
    )


def _circular_differences(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns forward differences along x and y; the spectra above, in space."""
    return jnp.roll(image, -1, 2) - image, jnp.roll(image, -1, 1) - image


def _released_differences(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As released: opposite sign, and zeros beyond the last column and row."""
    padded_x = jnp.pad(image, ((0, 0), (0, 0), (0, 1)))
    padded_y = jnp.pad(image, ((0, 0), (0, 1), (0, 0)))
    return image - padded_x[:, :, 1:], image - padded_y[:, 1:, :]
