"""What a student's run reads: the cache as it is used, the panel, batches."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.loader import make_loader
from fusionproxy_jax.input_pipeline.schema import FEATURE_DEVIATION
from fusionproxy_jax.teachers.cache import TeacherCache
from fusionproxy_jax.training.panel_features import PanelFeatures, load_panel_features
from fusionproxy_jax.training.preflight import check_cache, check_crop
from fusionproxy_jax.training.run_identity import run_metadata


class StudentInputs(NamedTuple):
    """Everything a configuration and a cache give together."""

    config: Config
    """As it is run: with a panel, on whole tiles."""
    cache: TeacherCache
    """With the features of the panel in its tiles."""
    panel: PanelFeatures | None
    digests: dict[str, str]
    """Backbone -> digest of its features in the cache."""

    def read(self, start: int, rows: range | None = None) -> Iterator[dict]:
        """Returns endless batches from number `start` on, see `make_loader`."""
        data = self.config.data
        return make_loader(
            self.cache,
            batch_size=data.batch_size,
            crop_px=data.crop_px,
            flip=data.flip,
            seed=data.seed,
            start=start,
            rows=rows,
            num_workers=data.num_workers,
        )

    def metadata(self, config: Config) -> dict:
        """Returns what is stored beside the state of a run of `config`."""
        meta = run_metadata(
            config, cache_hash=self.cache.hash, cache_config=self.cache.config_json
        )
        return {**meta, "panel": self.digests}


def open_inputs(
    config: Config, cache: TeacherCache, *, tell: Callable[[str], None]
) -> StudentInputs:
    """Returns what a run of `config` on `cache` reads.

    Args:
        config: The run.
        cache: The teachers' tiles.
        tell: Called with a sentence on the alignment.

    Raises:
        FusionProxyError: As `check_cache`, `check_crop` and `load_panel_features`, or
            a routing is asked for that has nothing to route.
    """
    check_cache(config, cache)
    panel = _panel(config, cache)
    if panel is None:
        check_crop(config.data.crop_px, cache)
        tell("no alignment to a panel")
        return StudentInputs(config, cache, None, {})
    names = panel.backbones
    digests = {entry.name: entry.digest for entry in cache.panel if entry.name in names}
    cache = cache.with_panel(names)
    config = on_whole_tiles(config, cache)
    tell(
        f"aligned to {', '.join(names)}; whole tiles of {config.data.crop_px} px, as "
        "features allow no crops and flips"
    )
    return StudentInputs(config, cache, panel, digests)


def _panel(config: Config, cache: TeacherCache) -> PanelFeatures | None:
    """Returns the panel, None where Eq. 10 is off."""
    panel = None
    if config.loss.alignment_weight > 0:
        panel = load_panel_features(
            config.panel.backbones, cache, dtype=config.compute_dtype
        )
    if panel is None and config.loss.routing != "variance":
        raise FusionProxyError(
            f"loss.routing is {config.loss.routing!r}, but the run aligns to nothing: "
            "the teacher cache has no features, or the panel or its weight is off; "
            "add them with `fusionproxy teach --panel.backbones ...`"
        )
    return panel


def on_whole_tiles(config: Config, cache: TeacherCache) -> Config:
    """Returns the configuration as it is run, by what a cache with a panel holds."""
    tile = cache[0]
    (grid,) = {
        array.shape[0]
        for key, array in tile.items()
        if key.startswith(FEATURE_DEVIATION)
    }
    crop_px = tile["visible"].shape[0]
    data = dataclasses.replace(config.data, crop_px=crop_px, flip=False)
    panel = dataclasses.replace(config.panel, grid=grid)
    return dataclasses.replace(config, data=data, panel=panel)
