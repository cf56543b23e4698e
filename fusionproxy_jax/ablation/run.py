"""Trains the rows of an ablation, or goes on doing so."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionproxy_jax.ablation.caches import Progress, build_caches
from fusionproxy_jax.ablation.plan import (
    PlannedRow,
    panel_names,
    plan_rows,
    require_rows,
)
from fusionproxy_jax.ablation.record import Record, begun, sweep_dir
from fusionproxy_jax.ablation.selection import table_rows
from fusionproxy_jax.config import Config
from fusionproxy_jax.sweeps.programs import programs_of
from fusionproxy_jax.sweeps.run import SweepProgress, run_sweep
from fusionproxy_jax.teachers.cached_tiles import TeacherCache
from fusionproxy_jax.teachers.verdict import failed_criteria
from fusionproxy_jax.training.interruption import stop_requests


class _StoppedError(Exception):
    """A signal came between two tiles."""


@dataclass(frozen=True)
class AblationResult:
    """How a call ended."""

    signal_number: int | None
    """The signal that stopped it; None when all rows are done."""
    died_at: dict[str, int | None]
    """Row -> step, of those whose training became NaN or infinite."""


def run_ablation(
    base: Config,
    letters: Sequence[str],
    cache_dir: Path,
    workdir: Path,
    *,
    table: int = 4,
    samples_of: TeacherCache | None = None,
    members_at_once: int | None = None,
    teaching: Progress | None = None,
    training: Callable[[SweepProgress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> AblationResult:
    """Builds the caches of rows, then trains and scores the rows.

    Args:
        base: The default configuration; a `workdir` of another one is refused.
        letters: The rows; those that are done are left alone.
        cache_dir: Folder of the teacher caches; ablations may share it.
        workdir: Folder of the ablation; made when missing.
        table: Number of the table.
        samples_of: See `build_caches`.
        members_at_once: See `train_population`.
        teaching: Called for every tile of a cache.
        training: Called at every report.
        tell: Called with a sentence now and then.

    Raises:
        FusionProxyError: Rows that cannot be, or whatever `build_caches` and
            `run_sweep` refuse; what is done by then stays.
    """
    workdir, tell = Path(workdir).absolute(), tell or (lambda sentence: None)
    rows = table_rows(table)
    backbones = panel_names(base)
    planned = plan_rows(base, rows, backbones)
    require_rows(letters, rows, planned)
    record = begun(workdir, Record.of(table, base, backbones, planned))
    members: dict[str, PlannedRow] = {}
    for row in planned.values():
        members.setdefault(row.member, row)
    chosen = {planned[letter].member: None for letter in letters}
    new = {name: members[name].config for name in chosen if name not in record.placed}
    record = record.with_sweeps(program.members for program in programs_of(new))
    sweeps = {
        name: [members[member] for member in inside]
        for name, inside in record.sweeps.items()
        if not chosen.keys().isdisjoint(inside)
    }
    wanted = {row.cache: row.config for inside in sweeps.values() for row in inside}
    with stop_requests() as stop:

        def taught(name: str, done: int, total: int) -> None:
            if teaching is not None:
                teaching(name, done, total)
            if stop:
                raise _StoppedError

        try:
            caches = build_caches(
                base,
                wanted,
                backbones,
                Path(cache_dir),
                samples_of=samples_of,
                progress=taught,
            )
        except _StoppedError:
            return AblationResult(stop.signal_number, {})
    told = {name: describe_cache(cache) for name, cache in caches.items()}
    record = dataclasses.replace(record, caches=record.caches | told)
    record.write(workdir)
    return _train(
        sweeps,
        caches,
        workdir,
        members_at_once=members_at_once,
        training=training,
        tell=tell,
    )


def _train(
    sweeps: dict[str, list[PlannedRow]],
    caches: dict[str, TeacherCache],
    workdir: Path,
    *,
    members_at_once: int | None,
    training: Callable[[SweepProgress], None] | None,
    tell: Callable[[str], None],
) -> AblationResult:
    died_at: dict[str, int | None] = {}
    for number, (name, rows) in enumerate(sweeps.items(), 1):
        who = ", ".join(f"{row.member} ({row.title})" for row in rows)
        tell(f"part {number} of {len(sweeps)}: rows {who}")
        result = run_sweep(
            {row.member: row.config for row in rows},
            caches[rows[0].cache],
            sweep_dir(workdir, name),
            members_at_once=members_at_once,
            progress=training,
            tell=tell,
        )
        died_at |= result.died_at
        if result.signal_number is not None:
            return AblationResult(result.signal_number, died_at)
    return AblationResult(None, died_at)


def describe_cache(cache: TeacherCache) -> dict[str, Any]:
    """Returns what a table tells of a cache, as JSON values."""
    return {
        "hash": cache.hash,
        "teachers": list(cache.manifest.teacher["teachers"]),
        "num_samples": cache.manifest.teacher["num_samples"],
        "num_tiles": len(cache),
        "tile_px": cache.manifest.teacher["tile_px"],
        "num_pairs": len(cache.manifest.images),
        "failed_gate": failed_criteria(cache.report),
    }
