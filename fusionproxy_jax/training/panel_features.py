"""The frozen side of Eq. 10 in a training step: loaded backbones beside their cache."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.panel.registry import (
    expand,
    load_backbones,
    locate,
    parse_entry,
)
from fusionproxy_jax.teachers.cache import TeacherCache

PyTree = Any
AUTO = ("auto",)


class PanelFeatures(NamedTuple):
    """How features of the fused image are taken, and what is usual for them."""

    backbones: tuple[str, ...]
    """Names, in the order k."""
    extract: Callable[[PyTree, jax.Array], tuple[jax.Array, ...]]
    """(`frozen`, fused images [b, h, w, 3]) to scaled features, one map a backbone."""
    frozen: PyTree
    """Parameters and channel scales of every backbone."""
    mean_variance: tuple[float, ...]
    """Mean feature variance over the training set, one value a backbone (Eq. 8)."""


def load_panel_features(
    wanted: Sequence[str], cache: TeacherCache, *, dtype: str
) -> PanelFeatures | None:
    """Returns the panel a run aligns to; None when it aligns to nothing.

    Args:
        wanted: `panel.backbones`; `auto` is every backbone the cache has.
        cache: Teacher cache with the statistics of all of them.
        dtype: What the backbones compute in.

    Raises:
        FusionProxyError: A backbone is not in the cache or unfinished there, its
            weights are missing, or they are not those the cache was taught with.
    """
    cached = {entry.name: entry for entry in cache.panel}
    if tuple(wanted) == AUTO:
        if cache.unfinished_panel:
            raise FusionProxyError(
                f"the features of {', '.join(cache.unfinished_panel)} in "
                f"{cache.directory} are unfinished; run the same `fusionproxy teach` "
                "again to finish them, or name others with --panel.backbones"
            )
        entries = tuple(locate(name) for name in cached)
    elif "auto" in wanted:
        raise FusionProxyError(
            f"panel.backbones is {' '.join(wanted)}; auto is all that the cache has "
            "and stands alone"
        )
    else:
        entries = expand(wanted)
    if not entries:
        return None
    # Before weights are read, which takes minutes for a large panel.
    for name in (parse_entry(entry).name for entry in entries):
        if name not in cached:
            raise FusionProxyError(
                f"panel.backbones names {name}; the teacher cache in "
                f"{cache.directory} has features of {', '.join(cached) or 'none'}; add "
                "it with the same `fusionproxy teach` and this --panel.backbones"
            )
    backbones = load_backbones(entries, dtype=dtype)
    for backbone in backbones:
        if cached[backbone.name].fingerprint != backbone.fingerprint:
            raise FusionProxyError(
                f"the weights of {backbone.name} are not those the teacher cache in "
                f"{cache.directory} was taught with; use those, or delete "
                f"features/{backbone.name} there and run `fusionproxy teach` again"
            )
    return make_panel_features(
        backbones,
        [cached[backbone.name].scale for backbone in backbones],
        [cached[backbone.name].mean_variance for backbone in backbones],
    )


def unscaled_panel_features(
    backbones: Sequence[Backbone], *, side_px: int
) -> PanelFeatures | None:
    """Returns a panel that no cache was taught with, to count and time steps with.

    Scales and usual variances are 1; None without backbones.

    Args:
        backbones: Their parameters may be shapes, if nothing is run.
        side_px: Side of the images.
    """
    if not backbones:
        return None
    image = jax.ShapeDtypeStruct((1, side_px, side_px, 3), jnp.float32)
    widths = [
        jax.eval_shape(backbone.apply, backbone.params, image).shape[-1]
        for backbone in backbones
    ]
    scales = [jnp.ones(width) for width in widths]
    return make_panel_features(backbones, scales, [1.0] * len(backbones))


def make_panel_features(
    backbones: Sequence[Backbone],
    scales: Sequence[jax.Array],
    mean_variance: Sequence[float],
) -> PanelFeatures:
    """Returns the panel of loaded backbones.

    Each backbone is rematerialised: its activations are computed again on the way
    back, so that those of one backbone at a time are in memory.

    Args:
        backbones: In the order k.
        scales: Standard deviation of every channel [c], one array a backbone.
        mean_variance: Usual feature variance, one value a backbone.
    """
    frozen = {
        backbone.name: {
            "params": backbone.params,
            "inverse_scale": 1.0 / jnp.asarray(scale, jnp.float32).reshape(1, 1, 1, -1),
        }
        for backbone, scale in zip(backbones, scales, strict=True)
    }

    def extract(frozen: PyTree, images: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(
            jax.checkpoint(backbone.apply)(frozen[backbone.name]["params"], images)
            * frozen[backbone.name]["inverse_scale"]
            for backbone in backbones
        )

    return PanelFeatures(
        backbones=tuple(backbone.name for backbone in backbones),
        extract=extract,
        frozen=frozen,
        mean_variance=tuple(map(float, mean_variance)),
    )
