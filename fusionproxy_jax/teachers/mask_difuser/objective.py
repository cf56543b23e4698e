"""What compact Mask-DiFuser minimises: the error of the clean image, in five ways.

The published loss is the noise error and, late in training, colour, pixel, structure
and perceptual terms on the one-step estimate. Here the network predicts the clean
image, so all act from the start; the perceptual term is left out, as it needs a
downloaded network.
"""

import jax
import jax.numpy as jnp

from fusionproxy_jax.diffusion.parameterization import min_snr_weight
from fusionproxy_jax.losses.structure import structure_loss


def restoration_loss(
    estimate: jax.Array, clean: jax.Array, signal: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the loss [b] of estimates [b, h, w, 3] in [-1, 1], and its terms.

    Squared error weighted by 1 + min(snr, 5), near what velocity would give it; plus,
    weighted by abar because an estimate from noise alone cannot be sharp, 0.5 of the
    absolute error, 0.5 of the absolute error of its gradients, 0.5 of (1 - SSIM) of the
    images in [0, 1], and 0.1 of the mean of 1 - cos of the angle between colours.

    Args:
      estimate: the network's clean image.
      clean: the target.
      signal: abar [b] of the noisy states.
    """
    squared = jnp.mean(jnp.square(estimate - clean), axis=(1, 2, 3))
    absolute = jnp.mean(jnp.abs(estimate - clean), axis=(1, 2, 3))
    edges = _edge_distance(estimate, clean)
    structure = structure_loss((estimate + 1.0) / 2.0, (clean + 1.0) / 2.0)
    colour = _colour_distance((estimate + 1.0) / 2.0, (clean + 1.0) / 2.0)
    terms = {
        "squared": (1.0 + min_snr_weight(signal, "clean")) * squared,
        "absolute": 0.5 * signal * absolute,
        "edges": 0.5 * signal * edges,
        "structure": 0.5 * signal * structure,
        "colour": 0.1 * signal * colour,
    }
    return sum(terms.values()), terms


def _edge_distance(estimate: jax.Array, clean: jax.Array) -> jax.Array:
    """Returns the mean absolute error of the differences along both axes, [b]."""
    error = estimate - clean
    return sum(
        jnp.mean(jnp.abs(jnp.diff(error, axis=axis)), axis=(1, 2, 3)) for axis in (1, 2)
    )


def _colour_distance(estimate: jax.Array, clean: jax.Array) -> jax.Array:
    """Returns the mean of 1 - cos between RGB vectors in [0, 1], [b]."""
    product = jnp.sum(estimate * clean, axis=-1)
    # Inside the root: black pixels have no direction, and no gradient.
    norms = jnp.sqrt(
        (jnp.sum(estimate**2, axis=-1) + 1e-3) * (jnp.sum(clean**2, axis=-1) + 1e-3)
    )
    return jnp.mean(1.0 - (product + 1e-3) / norms, axis=(1, 2))
