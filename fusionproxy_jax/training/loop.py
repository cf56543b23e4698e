"""Distillation: teacher cache in, student out."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax

from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.loader import make_loader
from fusionproxy_jax.input_pipeline.schema import FEATURE_DEVIATION
from fusionproxy_jax.teachers.cache import TeacherCache, open_cache
from fusionproxy_jax.training.build import Training, build_training
from fusionproxy_jax.training.checkpoint import has_checkpoint
from fusionproxy_jax.training.first_params import first_params
from fusionproxy_jax.training.panel_features import PanelFeatures, load_panel_features
from fusionproxy_jax.training.pictures import ValidationPictures
from fusionproxy_jax.training.reporting import Progress
from fusionproxy_jax.training.routing import split_routing
from fusionproxy_jax.training.routing_pictures import RoutingPictures
from fusionproxy_jax.training.run import (
    Run,
    TrainingResult,
    execute,
    require_one_process,
)
from fusionproxy_jax.training.run_identity import run_metadata


def train(
    config: Config,
    cache: str | Path | TeacherCache,
    workdir: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Distils a student from a teacher cache, or continues doing so.

    Args:
        config: The run. A `workdir` that holds another one is refused.
        cache: Folder made by `fusionproxy teach`, or the open cache.
        workdir: Folder of the run; made when missing.
        progress: Called at every report.
        tell: Called before training, with a sentence on the alignment and, in a new
            run, one on the weights it begins with where they are ImageNet's.

    Raises:
        FusionProxyError: Bad settings, a cache or checkpoint that cannot be read, a
            folder that cannot be written, or a loss that became NaN or infinite (the
            last good checkpoint stays).
    """
    require_one_process()
    if isinstance(cache, str | Path):
        cache = open_cache(Path(cache))
    workdir, tell = Path(workdir), tell or (lambda sentence: None)
    run = _student_run(config, cache, new=not has_checkpoint(workdir), tell=tell)
    return execute(run, workdir, progress=progress)


def _student_run(
    config: Config, cache: TeacherCache, *, new: bool, tell: Callable[[str], None]
) -> Run:
    """Returns the run; one that is not `new` needs no files to begin with."""
    panel = _panel(config, cache)
    names = () if panel is None else panel.backbones
    digests = {entry.name: entry.digest for entry in cache.panel if entry.name in names}
    if names:
        cache = cache.with_panel(names)
        config = _on_whole_tiles(config, cache)
        tell(
            f"aligned to {', '.join(names)}; whole tiles of {config.data.crop_px} px, "
            "as features allow no crops and flips"
        )
    else:
        tell("no alignment to a panel")
    training = build_training(config, panel=panel)
    data = make_loader(
        cache,
        batch_size=training.process_batch_size,
        crop_px=config.data.crop_px,
        flip=config.data.flip,
        seed=config.data.seed,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
        num_workers=config.data.num_workers,
    )
    meta = run_metadata(config, cache_hash=cache.hash, cache_config=cache.config_json)
    meta["panel"] = digests
    init_params = training.parts.init_params
    if new:
        init_params = first_params(config, init_params, tell=tell)
    return Run(
        config=config,
        meta=meta,
        data=data,
        parallel=training.parallel,
        optimizer=training.parts.optimizer,
        init_params=init_params,
        draw=_drawing(config, training, cache, panel),
    )


def _panel(config: Config, cache: TeacherCache) -> PanelFeatures | None:
    """Returns the panel, None where Eq. 10 is off.

    Raises:
        FusionProxyError: As `load_panel_features`, or a routing is asked for that has
            nothing to route.
    """
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


def _on_whole_tiles(config: Config, cache: TeacherCache) -> Config:
    """Returns the configuration as it is run, by what the cache holds."""
    tile = cache[0]
    (grid,) = {
        array.shape[0]
        for key, array in tile.items()
        if key.startswith(FEATURE_DEVIATION)
    }
    data = dataclasses.replace(
        config.data, crop_px=tile["visible"].shape[0], flip=False
    )
    panel = dataclasses.replace(config.panel, grid=grid)
    return dataclasses.replace(config, data=data, panel=panel)


def _drawing(
    config: Config,
    training: Training,
    cache: TeacherCache,
    panel: PanelFeatures | None,
) -> Callable[[Path, int, dict], None]:
    """Returns what draws held-out pairs and, with a panel, the routing of tiles."""
    pairs = ValidationPictures(
        training.parts.module,
        config.data.sources,
        validation_fraction=config.data.validation_fraction,
    )
    tiles = (
        None
        if panel is None
        else RoutingPictures(
            cache,
            panel,
            training.parts.routing,
        )
    )

    def draw(directory: Path, step: int, params: dict) -> None:
        student, routing_params = split_routing(params)
        pairs.write(directory, step, student)
        if tiles is not None:
            tiles.write(directory, step, routing_params)

    return draw
