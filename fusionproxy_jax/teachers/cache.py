"""The teacher cache: every training image's ensemble, drawn once, read many times.

A folder of manifest.json, prior.npz, array_record shards of a few tiles each, with a
panel features/NAME of every backbone (`panel_statistics`), and report.json, which comes
last. Several processes may build one folder: process p of P draws the shards k with k
mod P = p. All may be killed at any moment and started again in any order; the random
keys of a tile follow from its name, so the result is the same. Records are the dicts of
`input_pipeline.schema`; their id is the pair's with the tile's corner, "ID@top,left".
Samples that one cache kept may serve others of the same tiles (`samples_of`).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fusionproxy_jax.config import PanelConfig, TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.teachers.acceptance import read_report, write_report
from fusionproxy_jax.teachers.beginning import Ensemble, begin
from fusionproxy_jax.teachers.cached_tiles import TeacherCache
from fusionproxy_jax.teachers.kept_teacher import kept_teachers
from fusionproxy_jax.teachers.manifest import TILES_PER_SHARD, read_manifest
from fusionproxy_jax.teachers.ownership import sweep
from fusionproxy_jax.teachers.panel_statistics.cached_backbone import is_extracted
from fusionproxy_jax.teachers.panel_statistics.identity import FEATURES
from fusionproxy_jax.teachers.panel_statistics.panel_pass import PanelPass
from fusionproxy_jax.teachers.panel_statistics.shared_pass import PassProgress
from fusionproxy_jax.teachers.part import Part, Progress
from fusionproxy_jax.teachers.part_builder import SHEETS, PartBuilder
from fusionproxy_jax.teachers.samples import remove_samples
from fusionproxy_jax.teachers.shards import (
    is_finished,
    shard_path,
    unfinished_shards,
)
from fusionproxy_jax.teachers.tile_ensemble import default_tiles_per_draw, survey
from fusionproxy_jax.teachers.verdict import failed_criteria

_POLL_SECONDS = 0.5


def build_cache(
    source: Sequence[dict],
    config: TeacherConfig,
    directory: str | Path,
    *,
    progress: Progress | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
    tiles_per_draw: int | None = None,
    num_sheets: int = 0,
    accept_failed_gate: bool = False,
    prior_source: Sequence[dict] | None = None,
    panel: Sequence[Backbone] = (),
    panel_config: PanelConfig | None = None,
    keep_samples: bool = False,
    samples_of: TeacherCache | None = None,
    panel_progress: PassProgress | None = None,
) -> TeacherCache | None:
    """Builds the cache of `source` in `directory`, or goes on with a build begun there.

    Args:
      source: training pairs, dicts of id, visible uint8 [h, w, 3] and infrared float32
        [h, w] in [0, 1].
      config: teachers and tiles.
      directory: made if it does not exist.
      progress: called before the first tile of this process's part, after every tile
        drawn and every shard found done.
      process_index: which of the processes that share the folder this is. None for
        both is what `jax.distributed` says, one of one without it; processes joined by
        it wait for each other in the end, because JAX ends a job that one leaves.
      process_count: how many they are.
      tiles_per_draw: tiles drawn at once, at most those of a shard, spread over the
        local devices; None is one on CPU and a few per accelerator. Another number
        changes results by float rounding only.
      num_sheets: contact sheets in the folder's sheets/, of tiles evenly spread.
      accept_failed_gate: has report.json say that this ensemble may teach although
        the gate says no.
      prior_source: pairs that the Gaussian prior is fitted to, luminance and infrared;
        None takes `source`.
      panel: backbones whose statistics of the teacher samples the cache gets, beside
        those it has; for one that a finished cache lacks, samples that were not kept
        are drawn anew and nothing else is.
      panel_config: grid and tiles of the scale; its names are not looked at.
      keep_samples: leaves the samples of all teachers in the folder, for a panel that
        comes later. They go when a panel is finished without this.
      samples_of: a finished cache of the same pairs, tiles and settings that kept its
        samples: the first of each of its teachers are taken instead of drawn, and its
        prior. Only `average` may stand beside them and is drawn.
      panel_progress: as `progress`, with the name of a pass over the samples.

    Returns:
      The cache, whatever its gate says; None when parts of other processes are missing.

    Raises:
      FusionProxyError: the folder holds a cache of other teachers or pairs or features
        of another network under the name of one of the panel, or on another grid
        than the panel's, or cannot be written; there are no pairs; or samples cannot
        be taken.
    """
    directory = Path(directory)
    part = Part.of(process_index, process_count)
    if tiles_per_draw is None:
        tiles_per_draw = default_tiles_per_draw()
    if not 1 <= tiles_per_draw <= TILES_PER_SHARD:
        raise FusionProxyError(
            f"tiles_per_draw is {tiles_per_draw}; it must be 1 to {TILES_PER_SHARD}, "
            "the tiles of one shard"
        )
    images, prior = survey(source)
    if prior_source is not None:
        _, prior = survey(prior_source)
    if samples_of is None:
        ensemble = Ensemble(config, images)
    else:
        kept = kept_teachers(samples_of, config, images)
        ensemble = Ensemble(config, images, kept, samples_of.hash)
        prior = samples_of.prior
    manifest, teachers = begin(directory, ensemble, prior)
    panel_pass = PanelPass(
        directory, manifest, panel, panel_config or PanelConfig(), part
    )

    _sweep(directory)
    builder = PartBuilder(
        directory,
        source,
        manifest,
        config,
        teachers,
        part=part,
        tiles_per_draw=tiles_per_draw,
        num_sheets=num_sheets,
        needs_samples=panel_pass.needs_samples,
        keep_samples=keep_samples,
    )
    builder.draw(progress)
    panel_pass.measure(builder.samples, panel_progress)
    # Again: what a process left that died while this one waited for it.
    _sweep(directory)
    shards = [shard_path(directory, k) for k in range(len(manifest.shards))]
    wait = process_index is None
    if not _all_there(shards, is_finished, wait=wait):
        return None
    if not _all_there(panel_pass.moments_paths, Path.exists, wait=wait):
        return None
    panel_pass.extract(builder.samples, panel_progress)
    _sweep(directory)
    if not _all_there(panel_pass.features_paths, is_extracted, wait=wait):
        return None
    panel_pass.finish(panel_progress)
    if panel and not keep_samples:
        remove_samples(directory)
    write_report(directory, manifest, accept_failed=accept_failed_gate)
    return open_cache(directory, allow_rejected=True)


def open_cache(directory: str | Path, *, allow_rejected: bool = False) -> TeacherCache:
    """Opens a finished cache; its tiles carry no panel features, see `with_panel`.

    Args:
      directory: the cache's folder.
      allow_rejected: also one whose ensemble failed the gate and was not accepted.

    Raises:
      FusionProxyError: there is none, its build was not finished, or it is rejected.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        raise FusionProxyError(
            f"{directory} holds no teacher cache; build one with "
            f"`fusionproxy teach --cache {directory}`"
        )
    total = len(manifest.shards)
    missing = sum(not shard_path(directory, k).exists() for k in range(total))
    report = read_report(directory)
    if missing or report is None:
        what = f"{missing} of {total} parts are missing" if missing else "no report"
        raise FusionProxyError(
            f"the teacher cache in {directory} is unfinished ({what}); run the same "
            "`fusionproxy teach` again to finish it"
        )
    if not (report["accepted"] or allow_rejected):
        failed = "; ".join(failed_criteria(report))
        raise FusionProxyError(
            f"the teacher ensemble in {directory} failed its gate, it does not hold: "
            f"{failed}; change the teachers, or accept it with the same `fusionproxy "
            "teach` and --accept-failed-gate"
        )
    return TeacherCache(directory, manifest)


def count_missing(directory: str | Path) -> tuple[int, int]:
    """Returns how many parts of a begun cache are missing, and how many it has.

    Raises:
      FusionProxyError: no cache was begun there.
    """
    manifest = read_manifest(Path(directory))
    if manifest is None:
        raise FusionProxyError(f"{directory} holds no teacher cache")
    missing = unfinished_shards(Path(directory), manifest)
    return len(missing), len(manifest.shards)


def _sweep(directory: Path) -> None:
    for folder in (directory, directory / SHEETS, *(directory / FEATURES).glob("*")):
        sweep(folder)


def _all_there(
    paths: Iterable[Path], is_there: Callable[[Path], bool], *, wait: bool
) -> bool:
    """Returns whether all files are there, if need be after others have made them."""
    missing = [path for path in paths if not is_there(path)]
    while missing and wait:
        time.sleep(_POLL_SECONDS)
        missing = [path for path in missing if not is_there(path)]
    return not missing
