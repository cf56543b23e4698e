"""The training loop: cache in, student out, resumable at any moment.

A run's folder holds config.json, metrics.jsonl, tensorboard/, pictures/ and
checkpoints/. Running the same configuration on it again continues it.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import jax

from fusionproxy_jax.config import Config, to_json
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.loader import make_loader
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.teachers.cache import TeacherCache, open_cache
from fusionproxy_jax.training.build import build_training
from fusionproxy_jax.training.checkpoint import Checkpoints
from fusionproxy_jax.training.interruption import StopRequest, stop_requests
from fusionproxy_jax.training.metric_writer import MetricWriter
from fusionproxy_jax.training.pictures import ValidationPictures
from fusionproxy_jax.training.reporting import NotFiniteError, Progress, Reporter
from fusionproxy_jax.training.run_identity import check_same_run, run_metadata
from fusionproxy_jax.training.state import TrainState, empty_state, init_state


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    step: int
    """Updates made in all."""
    signal_number: int | None
    """The signal that stopped it; None when all steps are done."""


class _Run:
    """One configuration on one cache in one folder."""

    def __init__(self, config: Config, cache: TeacherCache, workdir: Path) -> None:
        self.config, self.workdir = config, workdir
        self.training = build_training(config)
        self.data = make_loader(
            cache,
            batch_size=self.training.process_batch_size,
            crop_px=config.data.crop_px,
            flip=config.data.flip,
            seed=config.data.seed,
            shard_index=jax.process_index(),
            shard_count=jax.process_count(),
            num_workers=config.data.num_workers,
        )
        self.meta = run_metadata(
            config, cache_hash=cache.hash, cache_config=cache.config_json
        )
        self.pictures = ValidationPictures(
            self.training.module,
            config.data.sources,
            validation_fraction=config.data.validation_fraction,
        )
        self.init_key, self.step_key = jax.random.split(jax.random.key(config.seed))

    def first_state(self, checkpoints: Checkpoints) -> TrainState:
        """Returns the newest state, with the data moved to it, or a new one."""
        module, optimizer = self.training.module, self.training.optimizer
        if checkpoints.latest_step() is None:
            return init_state(module, optimizer, self.init_key)
        check_same_run(checkpoints.read_meta(), self.meta, workdir=self.workdir)
        return checkpoints.restore(empty_state(module, optimizer), self.data)

    def advance(
        self,
        state: TrainState,
        checkpoints: Checkpoints,
        reporter: Reporter,
        stop: StopRequest,
    ) -> int:
        """Trains until all steps are done or a stop is asked for; returns the step."""
        config, parallel = self.config, self.training.parallel
        step, saved_step = int(state.step), int(state.step)
        state = parallel.replicate(state)
        while step < config.num_steps and not stop:
            batch = parallel.shard_batch(next(self.data))
            state, metrics = parallel.run(state, batch, self.step_key)
            reporter.add(metrics)
            step += 1
            last = step == config.num_steps
            saving = last or step % config.checkpoint_every == 0
            drawing = last or step % config.picture_every == 0
            if saving or drawing or step % config.log_every == 0:
                # Before a save: nothing that is not finite is ever kept.
                reporter.report()
            if saving or drawing:
                host_state = parallel.unreplicate(state)
            if saving:
                checkpoints.save(host_state, self.data, self.meta)
                saved_step = step
            if drawing:
                self.pictures.write(
                    self.workdir / "pictures", step, host_state.ema_params
                )
        if step != saved_step:
            reporter.report()
            checkpoints.save(parallel.unreplicate(state), self.data, self.meta)
        return step


def train(
    config: Config,
    cache: str | Path | TeacherCache,
    workdir: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    """Distils a student from a teacher cache, or continues doing so.

    Args:
        config: The run. A `workdir` that holds another one is refused.
        cache: Folder made by `fusionproxy teach`, or the open cache.
        workdir: Folder of the run; made when missing.
        progress: Called at every report.

    Raises:
        FusionProxyError: Bad settings, a cache or checkpoint that cannot be read, a
            folder that cannot be written, or a loss that became NaN or infinite (the
            last good checkpoint stays).
    """
    if jax.process_count() > 1:
        raise FusionProxyError(
            f"training runs in one process with any number of devices; this is one of "
            f"{jax.process_count()} processes"
        )
    workdir = Path(workdir).absolute()
    if isinstance(cache, str | Path):
        cache = open_cache(Path(cache))
    run = _Run(config, cache, workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            checkpoints = stack.enter_context(
                closing(Checkpoints(workdir, keep=config.keep_checkpoints))
            )
            state = run.first_state(checkpoints)
            with atomic_path(workdir / "config.json") as temporary:
                temporary.write_text(to_json(config) + "\n")
            start = int(state.step)
            writer = stack.enter_context(
                closing(MetricWriter(workdir, after_step=start))
            )
            reporter = Reporter(
                run.training.parallel,
                writer,
                start=start,
                num_steps=config.num_steps,
                batch_size=config.data.batch_size,
                progress=progress,
            )
            stop = stack.enter_context(stop_requests())
            step = run.advance(state, checkpoints, reporter, stop)
    except NotFiniteError as error:
        good = Checkpoints(workdir).latest_step()
        kept = "no checkpoint was" if good is None else f"checkpoint {good} is"
        raise FusionProxyError(
            f"training stopped at step {error.step}: the loss, its gradient or the "
            f"parameters became NaN or infinite ({kept} kept in {workdir}); lower "
            "optimizer.learning_rate and start in another --workdir"
        ) from None
    except OSError as error:
        raise FusionProxyError(
            f"could not write the run to {workdir}: {error.strerror or error}"
        ) from error
    return TrainingResult(step=step, signal_number=stop.signal_number)
