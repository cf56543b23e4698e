"""`fusionproxy teach`: draw the teacher ensemble of every training pair, once."""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from fusionproxy_jax.commands.tile_bars import TileBars
from fusionproxy_jax.config import Config, TeacherConfig
from fusionproxy_jax.config.teacher import TeacherName
from fusionproxy_jax.errors import FusionProxyError

if TYPE_CHECKING:
    from fusionproxy_jax.panel.backbone import Backbone
    from fusionproxy_jax.teachers.cache import TeacherCache


@dataclass(frozen=True, kw_only=True)
class Teach:
    """Draws the teacher ensemble of the training part of the pairs into a cache.

    With it go the features that --panel.backbones see in the samples; a backbone that
    a finished cache lacks is added to it. Killed or interrupted, the same command goes
    on where it was. Several processes may share the work and the folder: start each
    with its --process-index, in any order, or all with --distributed. Exits with 1 when
    the ensemble fails its gate; `train` refuses it then.
    """

    cache: Path
    """Folder of the cache; made if it does not exist."""

    teachers: str | None = None
    """Names with commas, as ddfm,mask_difuser; instead of --teacher.teachers."""

    samples: int | None = None
    """Samples per teacher; instead of --teacher.num-samples."""

    split: Literal["train", "validation"] = "train"
    """Which pairs: `validation` draws the held-out ones, for the gate."""

    sheets: int = 0
    """Contact sheets of so many tiles, into sheets/ of the cache."""

    keep_samples: bool = False
    """Leave all samples there (8 take 1.6 MB a tile): a later panel draws none anew.
    One that is taught without this option removes those kept before."""

    samples_of: Path | None = None
    """Another cache of the same pairs, tiles and settings, taught with --keep-samples:
    the first samples of its teachers are taken instead of drawn anew, `average` may
    stand beside them. The gate judges what was taken."""

    accept_failed_gate: bool = False
    """Let `train` use this ensemble although it fails; a finished cache is kept."""

    tiles_per_draw: int | None = None
    """Tiles drawn at once; by default 1 on CPU, 4 per accelerator, 16 at most."""

    process_index: int | None = None
    """This process, from 0, of --process-count that share the cache."""

    process_count: int | None = None
    """Processes that share the cache."""

    distributed: bool = False
    """Take both numbers from the cluster by jax.distributed (SLURM, MPI, TPU pods)."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    def __post_init__(self) -> None:
        """Rejects numbers that cannot be."""
        if self.sheets < 0:
            raise FusionProxyError(f"--sheets is {self.sheets}; it must be at least 0")
        given = [n for n in (self.process_index, self.process_count) if n is not None]
        if self.distributed and given:
            raise FusionProxyError(
                "--distributed takes the process's number from the cluster; leave out "
                "--process-index and --process-count"
            )

    def run(self) -> int:
        """Builds the cache, prints the gate report; 1 when the ensemble failed."""
        from fusionproxy_jax.input_pipeline.pairs import load_pairs
        from fusionproxy_jax.input_pipeline.split import split_pairs

        teacher = self._teacher_config()
        # First: weights that are missing must not be found out after hours of drawing.
        backbones = self._backbone_names()
        samples_of = self._open_samples_of()
        data = self.config.data
        pairs = load_pairs(data.sources)
        train, validation = split_pairs(pairs.ids_and_groups, data.validation_fraction)
        if self.split == "validation" and not validation:
            raise FusionProxyError(
                "--split validation draws the held-out pairs, but none is held out; "
                "give a --data.validation-fraction above 0 and a data set of at least "
                "two groups"
            )
        if self.distributed:
            _join_cluster()
        print(f"{len(train)} training pairs, {len(validation)} held out")
        drawn = train if self.split == "train" else validation
        panel = _load_panel(backbones)
        cache = self._build(
            teacher, pairs.subset(drawn), pairs.subset(train), panel, samples_of
        )
        return self._tell_unfinished() if cache is None else _tell_finished(cache)

    def _teacher_config(self) -> TeacherConfig:
        """Returns the teachers' configuration with this command's own settings."""
        changes = {}
        if self.teachers is not None:
            changes["teachers"] = _parse_teachers(self.teachers)
        if self.samples is not None:
            changes["num_samples"] = self.samples
        return dataclasses.replace(self.config.teacher, **changes)

    def _backbone_names(self) -> tuple[str, ...]:
        wanted = self.config.panel.backbones
        # Features are for training: of held-out pairs only where they are asked for.
        if not wanted or (self.split == "validation" and wanted == ("auto",)):
            return ()
        from fusionproxy_jax.panel.registry import resolve

        return resolve(wanted)

    def _open_samples_of(self) -> "TeacherCache | None":
        if self.samples_of is None:
            return None
        from fusionproxy_jax.teachers.cache import open_cache

        return open_cache(self.samples_of, allow_rejected=True)

    def _build(
        self,
        teacher: TeacherConfig,
        source: Sequence[dict],
        train: Sequence[dict],
        panel: "Sequence[Backbone]",
        samples_of: "TeacherCache | None",
    ) -> "TeacherCache | None":
        from fusionproxy_jax.teachers.cache import build_cache

        with TileBars() as bars:
            return build_cache(
                source,
                teacher,
                self.cache,
                progress=functools.partial(bars.show, "teach"),
                process_index=self.process_index,
                process_count=self.process_count,
                tiles_per_draw=self.tiles_per_draw,
                num_sheets=self.sheets,
                accept_failed_gate=self.accept_failed_gate,
                # Held-out pairs are for measuring; nothing is fitted to them.
                prior_source=None if self.split == "train" else train,
                panel=panel,
                panel_config=self.config.panel,
                keep_samples=self.keep_samples,
                samples_of=samples_of,
                panel_progress=bars.show,
            )

    def _tell_unfinished(self) -> int:
        from fusionproxy_jax.teachers.cache import count_missing

        missing, total = count_missing(self.cache)
        owed = f"{missing} of {total} parts" if missing else "features of the panel"
        print(
            f"process {self.process_index} of {self.process_count} is done; {owed} of "
            f"{self.cache} are still to come from the others"
        )
        return 0


def _load_panel(names: Sequence[str]) -> "Sequence[Backbone]":
    if not names:
        return ()
    from fusionproxy_jax.panel.registry import load_backbones

    return load_backbones(names)


def _parse_teachers(text: str) -> tuple[TeacherName, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    known = get_args(TeacherName)
    for name in names:
        if name not in known:
            raise FusionProxyError(
                f"--teachers names {name!r}; teachers are {', '.join(known)}"
            )
    return names


def _join_cluster() -> None:
    import jax

    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise FusionProxyError(
            f"--distributed found no cluster ({error}); start every process with its "
            "--process-index and --process-count instead"
        ) from error


def _tell_finished(cache: "TeacherCache") -> int:
    """Prints what the gate says; returns the command's exit code."""
    from fusionproxy_jax.teachers.gate_table import gate_table
    from fusionproxy_jax.teachers.panel_statistics.panel_lines import panel_lines
    from fusionproxy_jax.teachers.verdict import failed_criteria

    report = cache.report
    print(gate_table(report))
    for line in panel_lines(cache):
        print(line)
    print(f"{len(cache)} tiles in {cache.directory}, hash {cache.hash}")
    if report["accepted"] is True:
        return 0
    failed = "; ".join(failed_criteria(report))
    if report["accepted"]:
        print(f"accepted {report['accepted']}, although it does not hold: {failed}")
        return 0
    print(
        f"fusionproxy: the ensemble failed its gate, it does not hold: {failed}; "
        "change the teachers, or let `train` use it by the same command with "
        "--accept-failed-gate",
        file=sys.stderr,
    )
    return 1
