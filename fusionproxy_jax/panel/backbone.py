"""One frozen network Phi_k of the panel (Sec. 3.4): images in, features out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

PyTree = Any


@dataclass(frozen=True)
class Backbone:
    """A network ready to use; what it computes in is decided when it is loaded."""

    name: str
    """Key of its features in a cache, unique in a panel."""
    fingerprint: str
    """16 hex digits that change with weights, tap or input size."""
    params: PyTree
    """Frozen; passed to `apply`, so that no program holds them as constants."""
    apply: Callable[[PyTree, jax.Array], jax.Array]
    """(params, RGB images [b, h, w, 3] in [0, 1], any size) to features
    [b, gh, gw, c] on the network's own grid, float32; pure and differentiable in the
    images. Resizing and normalisation are part of it."""

    def features(self, images: jax.Array) -> jax.Array:
        """Returns `apply` with the network's own parameters."""
        return self.apply(self.params, images)
