"""A training run of any network: files, checkpoints, reports; resumable at any moment.

A run's folder holds config.json, metrics.jsonl, tensorboard/, pictures/ and
checkpoints/. Running the same configuration on it again continues it. Of several
processes, which share the folder, the first one writes; all train, save and stop
together.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import optax

from fusionproxy_jax.config import to_json
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.training.checkpoint import Checkpoints
from fusionproxy_jax.training.interruption import stop_requests
from fusionproxy_jax.training.metric_writer import MetricWriter
from fusionproxy_jax.training.parallel import Parallel
from fusionproxy_jax.training.preflight import check_disk_space, tree_bytes
from fusionproxy_jax.training.reporting import (
    NotFiniteError,
    Progress,
    Reporter,
    RunReport,
)
from fusionproxy_jax.training.run_identity import check_same_run
from fusionproxy_jax.training.state import (
    InitParams,
    TrainState,
    empty_state_of,
    new_state,
    state_shapes_of,
)
from fusionproxy_jax.training.stepping import Rhythm, Stepping, advance

PyTree = Any


class RunConfig(Rhythm, Protocol):
    """What a run needs of its configuration, whatever it trains."""

    seed: int
    keep_checkpoints: int
    data: Any


@dataclass(frozen=True)
class Run:
    """One configuration made ready to run.

    Attributes:
        config: A dataclass; written to config.json.
        meta: Stored with every checkpoint (`run_identity`).
        read: Number of the first batch -> endless batches, this process's rows.
        parallel: The step on its devices.
        optimizer: That of the step.
        init_params: Key -> first parameters.
        draw: (folder, step, averaged parameters): writes pictures of the progress;
            returns them by name.
        wandb: Project at Weights & Biases that gets what is reported, too.
    """

    config: RunConfig
    meta: dict
    read: Callable[[int], Iterator[dict[str, np.ndarray]]]
    parallel: Parallel
    optimizer: optax.GradientTransformation
    init_params: InitParams
    draw: Callable[[Path, int, PyTree], Mapping[str, Path]]
    wandb: str | None = None


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    step: int
    """Updates made in all."""
    signal_number: int | None
    """The signal that stopped it; None when all steps are done."""


def execute(
    run: Run, workdir: Path, *, progress: Callable[[Progress], None] | None = None
) -> TrainingResult:
    """Trains to the end or to a signal, from the newest checkpoint if there is one.

    Args:
        run: What to train. A `workdir` that holds another one is refused.
        workdir: Folder of the run; made when missing.
        progress: Called at every report.

    Raises:
        FusionProxyError: No room on the disk, a checkpoint that cannot be read, a
            folder that cannot be written, or a loss that became NaN or infinite (the
            last good checkpoint stays).
    """
    workdir = Path(workdir).absolute()
    config = run.config
    is_first = jax.process_index() == 0
    check_disk_space(
        workdir,
        state_bytes=tree_bytes(state_shapes_of(run.init_params, run.optimizer)),
        keep_checkpoints=config.keep_checkpoints,
        num_drawings=-(-config.num_steps // config.picture_every),
    )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            checkpoints = stack.enter_context(
                closing(Checkpoints(workdir, keep=config.keep_checkpoints))
            )
            init_key, step_key = jax.random.split(jax.random.key(config.seed))
            state = _first_state(run, checkpoints, workdir, init_key)
            start = int(state.step)
            writer = None
            if is_first:
                with atomic_path(workdir / "config.json") as temporary:
                    temporary.write_text(to_json(config) + "\n")
                writer = stack.enter_context(
                    closing(
                        MetricWriter(
                            workdir,
                            after_step=start,
                            wandb=run.wandb,
                            config=run.meta["config"],
                        )
                    )
                )
            reporter = Reporter(
                run.parallel.unreplicate,
                RunReport(
                    None if writer is None else writer.write,
                    progress if is_first else None,
                    num_steps=config.num_steps,
                    batch_size=config.data.batch_size,
                ),
                start=start,
            )
            stop = stack.enter_context(stop_requests())
            step, _ = advance(
                _stepping(run, workdir, step_key, writer),
                run.parallel.replicate(state),
                start=start,
                rhythm=config,
                checkpoints=checkpoints,
                reporter=reporter,
                stop=stop,
            )
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
    return TrainingResult(
        step=step,
        signal_number=None if step == config.num_steps else stop.signal_number,
    )


def _first_state(
    run: Run, checkpoints: Checkpoints, workdir: Path, key: jax.Array
) -> TrainState:
    """Returns the newest state, or a new one; on the host."""
    if checkpoints.latest_step() is None:
        return new_state(run.init_params, run.optimizer, key)
    check_same_run(checkpoints.read_meta(), run.meta, workdir=workdir)
    return checkpoints.restore(empty_state_of(run.init_params, run.optimizer))


def _stepping(
    run: Run, workdir: Path, step_key: jax.Array, writer: MetricWriter | None
) -> Stepping:
    parallel = run.parallel

    def draw(step: int, state: TrainState) -> None:
        if writer is None:
            return
        drawn = run.draw(workdir / "pictures", step, state.ema_params)
        for name, path in drawn.items():
            writer.write_image(name, step, path)

    return Stepping(
        read=run.read,
        run=lambda state, batch: parallel.run(
            state, parallel.shard_batch(batch), step_key
        ),
        fetch=parallel.unreplicate,
        draw=draw,
        meta=run.meta,
    )
