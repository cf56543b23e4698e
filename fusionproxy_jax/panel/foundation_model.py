"""What every Flax port of a foundation model says of itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from fusionproxy_jax.checkpoints.conversion_plan import Table


@dataclass(frozen=True)
class FoundationModel:
    """A port with one configuration: how to build it, fill it and feed it."""

    name: str
    """As in `panel.backbones`, and key of its features in a cache."""
    repository: str
    """Hugging Face repository of its weights."""
    licence: str
    """Of the weights, an SPDX name."""
    config: Any
    """Sizes and the tap; a frozen dataclass."""
    build: Callable[[Any, bool, jnp.dtype], nn.Module]
    """(config, whole, dtype) to the module. Its call takes normalised images
    [b, h, w, 3] and returns (features of the tapped block [b, gh, gw, c], a dict of
    intermediate values by name). It ends at the tap unless `whole`, which makes the
    parameters of all that follows as well."""
    key_table: Callable[[Any], Table]
    """Config to checkpoint key -> (parameter path, transform), of the whole network."""
    ignored: Sequence[str]
    """Patterns of checkpoint keys that belong to other parts: heads, text towers."""
    prefixes: Sequence[str]
    """Of checkpoint keys, taken off where they are."""
    mean: tuple[float, float, float]
    """RGB, of images in [0, 1]."""
    std: tuple[float, float, float]
    """RGB, of images in [0, 1]."""
    input_size: Callable[[Any, int, int], tuple[int, int]]
    """(config, height, width) of an image to the size the network sees it at."""
