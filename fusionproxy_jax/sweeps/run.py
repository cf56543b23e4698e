"""Trains the members of a sweep, program after program, and scores those that finish.

The folder of a sweep holds sweep.json, members/NAME, each an ordinary run folder with
status.json and scores.json beside, and programs/ID with the state of what trains
together. The same call on the same folder goes on where it was stopped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax

from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.accelerator import device_name
from fusionproxy_jax.sweeps.folder import begin_sweep, member_dir, program_dir
from fusionproxy_jax.sweeps.member_files import (
    Status,
    read_scores,
    read_status,
    write_scores,
)
from fusionproxy_jax.sweeps.members import check_members
from fusionproxy_jax.sweeps.programs import Program, programs_of, share_of
from fusionproxy_jax.sweeps.scoring import HeldOutPairs
from fusionproxy_jax.sweeps.status_writer import StatusWriter
from fusionproxy_jax.sweeps.unfinished import unfinished_part
from fusionproxy_jax.teachers.cache import TeacherCache, open_cache
from fusionproxy_jax.training.checkpoint import load_student
from fusionproxy_jax.training.interruption import stop_requests
from fusionproxy_jax.training.population import PopulationProgress, train_population

Tell = Callable[[str], None]


@dataclass(frozen=True)
class SweepProgress:
    """Where a task of a sweep stands, at every report."""

    number: int
    """Of the program that trains, from 1."""
    num_programs: int
    population: PopulationProgress


@dataclass(frozen=True)
class SweepResult:
    """How a task of a sweep ended."""

    statuses: Mapping[str, Status | None]
    """Of the members it was to train; None of those not begun."""
    signal_number: int | None
    """The signal that stopped it; None when everything is done."""

    @property
    def died_at(self) -> dict[str, int | None]:
        """Member -> step, of those that died."""
        return {
            name: status.died_at
            for name, status in self.statuses.items()
            if status is not None and status.state == "dead"
        }


def run_sweep(
    members: Mapping[str, Config],
    cache: str | Path | TeacherCache,
    workdir: str | Path,
    *,
    index: int | None = None,
    count: int | None = None,
    members_at_once: int | None = None,
    progress: Callable[[SweepProgress], None] | None = None,
    tell: Tell | None = None,
    wandb: str | None = None,
) -> SweepResult:
    """Trains and scores the members, or goes on doing so.

    Args:
        members: Name -> configuration. A `workdir` that holds other ones is refused.
        cache: Folder made by `fusionproxy teach`, or the open cache, of all members.
        workdir: Folder of the sweep; made when missing, shared by the tasks of an array
            job.
        index: This task of the array, from 0; None for both is no array.
        count: Tasks of the array; each trains its share of the members (`share_of`).
        members_at_once: See `train_population`.
        progress: Called at every report.
        tell: Called with a sentence now and then.
        wandb: Project at Weights & Biases that gets every member as a run, too.

    Raises:
        FusionProxyError: Bad members, or whatever `train_population` refuses; what is
            trained by then stays.
    """
    check_members(members, source="the sweep")
    own = share_of(members, index, count)
    workdir, tell = Path(workdir).absolute(), tell or (lambda sentence: None)
    show = progress or (lambda progress: None)
    if isinstance(cache, str | Path):
        cache = open_cache(Path(cache))
    programs = programs_of(own)
    # First: what is missing or refused must not be found out after hours of training.
    held_out = {_data_of(program): _held_out_pairs(program) for program in programs}
    begin_sweep(workdir, members, cache_hash=cache.hash)
    parts = [unfinished_part(program, workdir) for program in programs]
    if not own:
        tell(
            f"task {index} of {count} has nothing to do: the sweep has {len(members)} "
            "members"
        )
    signal_number = None
    for number, (program, part) in enumerate(zip(programs, parts, strict=True), 1):
        if part is not None:
            tell(f"program {number} of {len(programs)}: {', '.join(part.members)}")
            signal_number = _train(
                part,
                cache,
                workdir,
                members_at_once=members_at_once,
                progress=lambda population, number=number: show(
                    SweepProgress(number, len(programs), population)
                ),
                tell=tell,
                wandb=wandb,
            )
        # Of several processes that train one population, the first one scores.
        if signal_number is None and jax.process_index() == 0:
            pairs = held_out[_data_of(program)]
            signal_number = _score(program, pairs, workdir, tell)
        if signal_number is not None:
            break
    statuses = {name: read_status(member_dir(workdir, name)) for name in own}
    return SweepResult(statuses, signal_number)


def _data_of(program: Program) -> tuple[tuple[str, ...], float]:
    """Returns sources and validation fraction, which are one for all members."""
    data = next(iter(program.members.values())).data
    return tuple(data.sources), data.validation_fraction


def _held_out_pairs(program: Program) -> HeldOutPairs:
    sources, validation_fraction = _data_of(program)
    return HeldOutPairs(sources, validation_fraction=validation_fraction)


def _train(
    program: Program,
    cache: TeacherCache,
    workdir: Path,
    *,
    members_at_once: int | None,
    progress: Callable[[PopulationProgress], object],
    tell: Tell,
    wandb: str | None,
) -> int | None:
    """Trains one program; returns the signal that stopped it."""
    writer = StatusWriter(program, workdir, device=device_name())

    def report(population: PopulationProgress) -> None:
        writer.report(population)
        progress(population)

    try:
        result = train_population(
            program.members,
            cache,
            program_dir(workdir, program.id),
            {name: member_dir(workdir, name) for name in program.members},
            members_at_once=members_at_once,
            progress=report,
            tell=tell,
            wandb=wandb,
        )
    except BaseException:
        writer.break_off()
        raise
    writer.end(result)
    return result.signal_number


def _score(
    program: Program, held_out: HeldOutPairs, workdir: Path, tell: Tell
) -> int | None:
    """Scores finished members without scores; returns the signal that stopped it."""
    waiting = []
    for name in program.members:
        directory = member_dir(workdir, name)
        status = read_status(directory)
        finished = status is not None and status.state == "finished"
        if finished and read_scores(directory) is None:
            waiting.append(name)
    if waiting and not len(held_out):
        tell(
            "no pairs are held out, so there are no scores; data.sources and "
            "data.validation_fraction say which"
        )
        return None
    if waiting:
        tell(f"scoring {len(waiting)} members on {len(held_out)} held-out pairs")
    with stop_requests() as stop:
        for name in waiting:
            directory = member_dir(workdir, name)
            try:
                student, params, _ = load_student(directory)
                scores = held_out.score(student, params, stop=lambda: bool(stop))
            except FusionProxyError as error:
                # The rest of the sweep is worth its time all the same.
                tell(f"{name} gets no scores: {error}")
                continue
            if scores is not None:
                write_scores(directory, scores)
            if stop:
                break
    return stop.signal_number
