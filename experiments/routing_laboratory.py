"""Routing laboratory: which backbone would teach which pixel, at which temperature?

    python experiments/routing_laboratory.py --cache runs/teacher --tile 12
    python experiments/routing_laboratory.py

The first draws a tile of a teacher cache that has panel features, the second a made-up
scene that needs no files. As a notebook (cells begin with `# %%`), change `settings`.
Rows of the picture: what the cameras saw and where the teachers disagree; v~ of Eq. 8
of each backbone; then, for each temperature tau, the weights of each backbone and their
entropy, with means over the tile. Weights are drawn from 0 black to 1 white, entropy
from 0 to log k.
"""

# %% Settings
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.contact_sheet import contact_sheet
from fusionproxy_jax.input_pipeline.synthetic import synthetic_pair
from fusionproxy_jax.losses.routing import (
    informativeness,
    normalised_routing_entropy,
)
from fusionproxy_jax.losses.routing_variants import variance_routing
from fusionproxy_jax.runtime.images import write_image
from fusionproxy_jax.teachers.cache import open_cache


@dataclass(frozen=True)
class Settings:
    """Draws routing maps of one tile for a range of temperatures."""

    cache: Path | None = None
    """Teacher cache with panel features; without one, a synthetic scene."""
    tile: int = 0
    """Number of the tile, or of the scene."""
    temperatures: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0, 3.0, math.inf)
    """0 is one backbone a pixel, inf is uniform weighting."""
    out: Path = Path("routing.png")
    cell_px: int = 192
    """Width of every picture on the sheet."""


interactive = hasattr(sys, "ps1")
settings = Settings() if interactive else tyro.cli(Settings)


# %% What the teachers' samples say of a tile
@dataclass(frozen=True)
class Tile:
    """What is drawn, and what Eq. 8 needs of it."""

    name: str
    visible: np.ndarray
    """uint8 [h, w, 3]."""
    infrared: np.ndarray
    """[h, w]."""
    deviation: np.ndarray
    """[h, w], root of Eq. 5."""
    backbones: tuple[str, ...]
    variance: jax.Array
    """[k, g, g], Eq. 6."""
    mean_variance: jax.Array
    """[k], its mean over the training set."""


def cached_tile(directory: Path, index: int) -> Tile:
    cache = open_cache(directory, allow_rejected=True)
    if not 0 <= index < len(cache):
        raise FusionProxyError(
            f"tile {index} is asked for; the cache in {directory} has {len(cache)}"
        )
    names = tuple(backbone.name for backbone in cache.panel)
    if not names:
        raise FusionProxyError(
            f"the teacher cache in {directory} has no panel features; add them with "
            f"`fusionproxy teach --cache {directory} --panel.backbones ...`"
        )
    tile = cache.with_panel(names)[index]
    deviation = [tile[f"feature_deviation/{name}"] for name in names]
    return Tile(
        name=str(tile["id"]),
        visible=tile["visible"],
        infrared=tile["infrared"].astype(np.float32),
        deviation=tile["ensemble_deviation"].astype(np.float32),
        backbones=names,
        variance=jnp.square(jnp.asarray(np.stack(deviation), jnp.float32)),
        mean_variance=jnp.array([backbone.mean_variance for backbone in cache.panel]),
    )


# %% The same of a scene whose teachers and backbones are made up
def blocks(images: jax.Array, size: int) -> jax.Array:
    """Mean over squares of `size` pixels, [n, h, w, c]."""
    n, height, width, c = images.shape
    shape = n, height // size, size, width // size, size, c
    return images.reshape(shape).mean(axis=(2, 4))


def edges(images: jax.Array) -> jax.Array:
    grey = blocks(images, 2).mean(axis=-1)
    return jnp.stack(jnp.gradient(grey, axis=(1, 2)), axis=-1)


def texture(images: jax.Array) -> jax.Array:
    fine = images - jax.image.resize(blocks(images, 4), images.shape, "nearest")
    return jnp.sqrt(blocks(jnp.square(fine), 4) + 1e-6)


def regions(images: jax.Array) -> jax.Array:
    return blocks(images, 16)


MADE_UP = {"edges": edges, "texture": texture, "regions": regions}


def made_up_samples(pair: dict, key: jax.Array, num_samples: int = 8) -> jax.Array:
    """Fused images [n, h, w, 3] that trust each camera by a smooth random share."""
    visible = jnp.asarray(pair["visible"], jnp.float32) / 255
    infrared = jnp.asarray(pair["infrared"])[..., None]
    size = num_samples, *infrared.shape
    coarse = jax.random.normal(key, (num_samples, 6, 6, 1))
    share = jax.nn.sigmoid(jax.image.resize(coarse, size, "bicubic"))
    return share * visible[None] + (1 - share) * infrared[None]


def synthetic_tile(index: int, *, side_px: int = 256, grid: int = 64) -> Tile:
    """The scene `index`; means and scales over it and the three before it."""
    pairs = [
        synthetic_pair(number, height=side_px, width=side_px)
        for number in range(max(0, index - 3), index + 1)
    ]
    keys = jax.random.split(jax.random.key(index), len(pairs))
    samples = [made_up_samples(*both) for both in zip(pairs, keys, strict=True)]
    variances = []
    for extract in MADE_UP.values():
        features = jnp.stack([extract(images) for images in samples])
        features = features / jnp.std(features, axis=(0, 1, 2, 3), keepdims=True)
        size = *features.shape[:2], grid, grid, features.shape[-1]
        features = jax.image.resize(features, size, "bilinear", antialias=False)
        variances.append(jnp.var(features, axis=1).mean(axis=-1))
    variance = jnp.stack(variances, axis=1)
    return Tile(
        name=pairs[-1]["id"],
        visible=pairs[-1]["visible"],
        infrared=pairs[-1]["infrared"],
        deviation=np.sqrt(jnp.var(samples[-1], axis=0).mean(axis=-1)),
        backbones=tuple(MADE_UP),
        variance=variance[-1],
        mean_variance=variance.mean(axis=(0, 2, 3)),
    )


tile = (
    synthetic_tile(settings.tile)
    if settings.cache is None
    else cached_tile(settings.cache, settings.tile)
)

# %% Eq. 8 at all temperatures at once
# Other routings of fusionproxy_jax.losses.routing_variants fit in here as they are.
statistics = tile.variance[None], tile.mean_variance
weights = jax.jit(jax.vmap(lambda t: variance_routing(t)(*statistics)))(
    jnp.array(settings.temperatures)
)
entropy = jax.vmap(normalised_routing_entropy)(weights)[:, 0]
weights = weights[:, 0]


# %% The picture
def short(name: str) -> str:
    """Returns a backbone's name without the tensor, to fit a picture's width."""
    return name.partition("#")[0].partition("_")[0]


def grey(image: np.ndarray, *, white: float = 1.0) -> np.ndarray:
    """Returns uint8 [h, w]; small maps are enlarged without smoothing."""
    image = np.clip(np.asarray(image, np.float32) / white, 0, 1)
    enlargement = math.ceil(settings.cell_px / image.shape[1])
    if enlargement > 1:
        image = image.repeat(enlargement, axis=0).repeat(enlargement, axis=1)
    return np.round(255 * image).astype(np.uint8)


def sheet() -> np.ndarray:
    largest = float(tile.deviation.max()) or 1.0
    informative = informativeness(*statistics)[0]
    rows = [
        [
            (tile.name, tile.visible),
            ("infrared", grey(tile.infrared)),
            (
                f"deviation, white = {largest:.3f}",
                grey(tile.deviation, white=largest),
            ),
        ],
        [
            (f"{short(name)}, white = 4", grey(one, white=4.0))
            for name, one in zip(tile.backbones, informative, strict=True)
        ],
    ]
    for number, temperature in enumerate(settings.temperatures):
        row = [
            (f"{short(name)}, tau {temperature:g}: {one.mean():.2f}", grey(one))
            for name, one in zip(tile.backbones, weights[number], strict=True)
        ]
        mean = float(entropy[number].mean())
        rows.append([*row, (f"entropy: {mean:.2f}", grey(entropy[number]))])
    return contact_sheet(rows, cell_width_px=settings.cell_px)


write_image(settings.out, sheet())
print(f"{settings.out}: routing of {tile.name} over {', '.join(tile.backbones)}")
