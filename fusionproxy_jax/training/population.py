"""Training a population of students to the end: files, checkpoints, reports.

The population's folder holds the checkpoints of all members' states together; every
member has a run folder of its own like that of a single run, whose checkpoint comes
when the population ends. The same call on the same folders continues.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.cache import TeacherCache, open_cache
from fusionproxy_jax.training.build import build_parts
from fusionproxy_jax.training.knobs import TRACED, stack_knobs, static_settings
from fusionproxy_jax.training.population_report import PopulationProgress
from fusionproxy_jax.training.population_run import PopulationResult, PopulationRun
from fusionproxy_jax.training.population_step import populate
from fusionproxy_jax.training.preflight import check_disk_space, tree_bytes
from fusionproxy_jax.training.state import state_shapes_of
from fusionproxy_jax.training.student_inputs import open_inputs

__all__ = [
    "TRACED",
    "PopulationProgress",
    "PopulationResult",
    "static_settings",
    "train_population",
]


def train_population(
    members: Mapping[str, Config],
    cache: str | Path | TeacherCache,
    workdir: Path,
    member_dirs: Mapping[str, Path],
    *,
    members_at_once: int | None = None,
    progress: Callable[[PopulationProgress], None] | None = None,
    tell: Callable[[str], None] | None = None,
    wandb: str | None = None,
) -> PopulationResult:
    """Distils all members from one teacher cache, or continues doing so.

    Args:
        members: Name -> run; they differ in `TRACED` settings only.
        cache: Folder made by `fusionproxy teach`, or the open cache.
        workdir: Folder of the population's checkpoints; made when missing. One that
            holds other members is refused.
        member_dirs: Name -> folder of the member's run.
        members_at_once: See `populate`.
        progress: Called at every report.
        tell: Called before training, see `train`.
        wandb: Project at Weights & Biases; every member is a run there.

    Raises:
        FusionProxyError: Members differ in more, or as `train`; a member whose loss
            becomes NaN or infinite is dead, and no error.
    """
    config, tell = _one_program(members), tell or (lambda sentence: None)
    if isinstance(cache, str | Path):
        cache = open_cache(Path(cache))
    inputs = open_inputs(config, cache, tell=tell)
    members = {name: _as_run(each, inputs.config) for name, each in members.items()}
    parts = build_parts(inputs.config, panel=inputs.panel)
    keys = [jax.random.split(jax.random.key(each.seed)) for each in members.values()]
    init_keys, step_keys = (jnp.stack(own) for own in zip(*keys, strict=True))
    population = populate(
        parts.make_step,
        stack_knobs(members),
        step_keys,
        frozen=None if inputs.panel is None else inputs.panel.frozen,
        members_at_once=members_at_once,
    )
    check_disk_space(
        Path(workdir),
        state_bytes=len(members)
        * tree_bytes(state_shapes_of(parts.init_params, parts.optimizer)),
        keep_checkpoints=inputs.config.keep_checkpoints,
        num_drawings=len(members)
        * -(-inputs.config.num_steps // inputs.config.picture_every),
    )
    run = PopulationRun(members, inputs, parts, population, dict(member_dirs))
    try:
        return run.execute(
            Path(workdir).absolute(), init_keys, progress, tell=tell, wandb=wandb
        )
    except OSError as error:
        raise FusionProxyError(
            f"could not write the population to {workdir}: {error.strerror or error}"
        ) from error


def _one_program(members: Mapping[str, Config]) -> Config:
    """Returns the first member's configuration, which all share but for numbers."""
    (first_name, first), *others = members.items()
    wanted = static_settings(first)
    for name, config in others:
        found = static_settings(config)
        for setting, value in wanted.items():
            if found[setting] != value:
                raise FusionProxyError(
                    f"{setting} is {value!r} in {first_name} and {found[setting]!r} in "
                    f"{name}; members of one population differ in "
                    f"{', '.join(sorted(TRACED))} only"
                )
    return first


def _as_run(member: Config, run: Config) -> Config:
    """Returns a member's configuration on the data that all members share."""
    return dataclasses.replace(member, data=run.data, panel=run.panel)
