"""The teacher caches of an ablation: samples drawn once, all caches made of them.

Below one folder lie samples/, with the samples of both teachers and no features, and a
cache for every ensemble, variance and target that rows vary. All of them take their
samples from there, the default's too: rows differ in what they vary and in no rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pairs import load_pairs
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.panel.registry import load_backbones
from fusionproxy_jax.teachers.cache import build_cache, open_cache
from fusionproxy_jax.teachers.cached_tiles import TeacherCache
from fusionproxy_jax.teachers.manifest import Manifest

_SAMPLES = "samples"

# Called with (what is made, tiles done, tiles in all).
Progress = Callable[[str, int, int], None]


def build_caches(
    base: Config,
    wanted: Mapping[str, Config],
    backbones: Sequence[str],
    cache_dir: Path,
    *,
    samples_of: TeacherCache | None = None,
    progress: Progress | None = None,
) -> dict[str, TeacherCache]:
    """Returns the caches, built where they are not there; killed builds go on.

    Caches whose ensemble fails its gate are returned like others: a single sample
    always does.

    Args:
        base: The default configuration, with all teachers and samples.
        wanted: Name of a cache -> configuration of a row that learns from it.
        backbones: Names of the panel of all of them.
        cache_dir: Folder of the caches; made if missing.
        samples_of: A finished cache that kept its samples, which are taken instead of
            drawing any.
        progress: Called for every tile.

    Raises:
        FusionProxyError: There are no pairs, samples of that cache are others, or a
            folder there holds something else.
    """
    pairs = load_pairs(base.data.sources)
    train, _ = split_pairs(pairs.ids_and_groups, base.data.validation_fraction)
    source = pairs.subset(train)
    if samples_of is None:
        samples_of = build_cache(
            source,
            base.teacher,
            cache_dir / _SAMPLES,
            keep_samples=True,
            progress=_told(progress, _SAMPLES),
        )
    panel: tuple[Backbone, ...] | None = None
    caches = {}
    for name, config in wanted.items():
        directory = cache_dir / name
        found = _finished(directory, config, backbones, samples_of)
        if found is None:
            if panel is None:
                panel = load_backbones(base.panel.backbones) if backbones else ()
            found = build_cache(
                source,
                config.teacher,
                directory,
                progress=_told(progress, name),
                panel=panel,
                panel_config=config.panel,
                samples_of=samples_of,
                panel_progress=_told_pass(progress, name),
            )
        caches[name] = found
    return caches


def _finished(
    directory: Path,
    config: Config,
    backbones: Sequence[str],
    samples_of: TeacherCache,
) -> TeacherCache | None:
    """Returns the cache in a folder if it is whole and what is wanted."""
    try:
        cache = open_cache(directory, allow_rejected=True)
    except FusionProxyError:
        return None
    found = cache.manifest
    wanted = Manifest.of(
        config.teacher, found.fingerprints, found.images, samples_of=samples_of.hash
    )
    kinds = {entry.name: (entry.grid, entry.target) for entry in cache.panel}
    kind = config.panel.grid, config.panel.target
    if wanted.hash != found.hash or found.images != samples_of.manifest.images:
        return None
    return cache if all(kinds.get(name) == kind for name in backbones) else None


def _told(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)


def _told_pass(
    progress: Progress | None, name: str
) -> Callable[[str, int, int], None] | None:
    if progress is None:
        return None
    return lambda what, done, total: progress(f"{name} {what}", done, total)
