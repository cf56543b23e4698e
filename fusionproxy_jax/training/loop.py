"""Distillation: teacher cache in, student out."""

import functools
from collections.abc import Callable
from pathlib import Path

from fusionproxy_jax.config import Config
from fusionproxy_jax.teachers.cache import TeacherCache, open_cache
from fusionproxy_jax.training.build import build_training
from fusionproxy_jax.training.checkpoint import has_checkpoint
from fusionproxy_jax.training.first_params import first_params
from fusionproxy_jax.training.preflight import check_workdir
from fusionproxy_jax.training.reporting import Progress
from fusionproxy_jax.training.run import Run, TrainingResult, execute
from fusionproxy_jax.training.student_inputs import open_inputs
from fusionproxy_jax.training.student_pictures import StudentPictures


def train(
    config: Config,
    cache: str | Path | TeacherCache,
    workdir: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] | None = None,
    wandb: str | None = None,
) -> TrainingResult:
    """Distils a student from a teacher cache, or continues doing so.

    Args:
        config: The run. A `workdir` that holds another one is refused.
        cache: Folder made by `fusionproxy teach`, or the open cache.
        workdir: Folder of the run; made when missing.
        progress: Called at every report.
        tell: Called before training, with a sentence on the alignment and, in a new
            run, one on the weights it begins with where they are ImageNet's.
        wandb: Project at Weights & Biases that gets metrics and pictures, too.

    Raises:
        FusionProxyError: Bad settings, a cache or checkpoint that cannot be read, a
            folder that cannot be written, or a loss that became NaN or infinite (the
            last good checkpoint stays).
    """
    if isinstance(cache, str | Path):
        cache = open_cache(Path(cache))
    workdir, tell = Path(workdir), tell or (lambda sentence: None)
    check_workdir(workdir, cache)
    new = not has_checkpoint(workdir)
    run = _student_run(config, cache, new=new, tell=tell, wandb=wandb)
    return execute(run, workdir, progress=progress)


def _student_run(
    config: Config,
    cache: TeacherCache,
    *,
    new: bool,
    tell: Callable[[str], None],
    wandb: str | None,
) -> Run:
    """Returns the run; one that is not `new` needs no files to begin with."""
    inputs = open_inputs(config, cache, tell=tell)
    config = inputs.config
    parts, parallel = build_training(config, panel=inputs.panel)
    init_params = parts.init_params
    if new:
        init_params = first_params(config, init_params, tell=tell)
    pictures = StudentPictures(inputs, parts.module)
    return Run(
        config=config,
        meta=inputs.metadata(config),
        read=functools.partial(inputs.read, rows=parallel.rows.own),
        parallel=parallel,
        optimizer=parts.optimizer,
        init_params=init_params,
        draw=functools.partial(pictures.write, routing=parts.routing),
        wandb=wandb,
    )
