"""Training a compact teacher: pairs in, a denoising network out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.config import (
    MaskDifuserNetConfig,
    TeacherTrainingConfig,
    UNetConfig,
    from_json,
)
from fusionproxy_jax.config.checks import check_types
from fusionproxy_jax.diffusion.learned_prior import LearnedPrior
from fusionproxy_jax.diffusion.unet import UNet
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pair_crops import make_pair_loader
from fusionproxy_jax.input_pipeline.pairs import load_pairs
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.teachers.mask_difuser.network import MaskDifuserNet
from fusionproxy_jax.teachers.mask_difuser.sampling import Restorer
from fusionproxy_jax.teachers.pretrained import load_prior, load_restorer
from fusionproxy_jax.training.knobs import peak_learning_rate
from fusionproxy_jax.training.parallel import parallelize
from fusionproxy_jax.training.pictures import held_out_pairs
from fusionproxy_jax.training.reporting import Progress
from fusionproxy_jax.training.run import Run, TrainingResult, execute
from fusionproxy_jax.training.run_identity import run_metadata
from fusionproxy_jax.training.state import (
    InitParams,
    build_optimizer,
    moments_and_average,
)
from fusionproxy_jax.training.teacher_objectives import (
    prior_objective,
    restorer_objective,
)
from fusionproxy_jax.training.teacher_pictures import TeacherPictures
from fusionproxy_jax.training.update import Objective, make_update


def train_teacher(
    config: TeacherTrainingConfig,
    workdir: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    """Trains the network of `config.teacher`, or continues doing so.

    Args:
        config: The run. A `workdir` that holds another one is refused.
        workdir: Folder of the run; made when missing.
        progress: Called at every report.

    Raises:
        FusionProxyError: As `training.run.execute`; no pairs; a crop the network's
            levels do not divide.
    """
    check_types(config)
    return execute(_teacher_run(config), Path(workdir), progress=progress)


def _teacher_run(config: TeacherTrainingConfig) -> Run:
    objective, init_params, stride = _network(config)
    if config.data.crop_px % stride:
        raise FusionProxyError(
            f"data.crop_px is {config.data.crop_px}; this network needs a multiple of "
            f"{stride}"
        )
    pairs = load_pairs(config.data.sources)
    train, _ = split_pairs(pairs.ids_and_groups, config.data.validation_fraction)
    optimizer, schedule = build_optimizer(
        config.optimizer.method,
        learning_rate=peak_learning_rate(config),
        warmup_steps=config.optimizer.warmup_steps,
        num_steps=config.num_steps,
        weight_decay=config.optimizer.weight_decay,
        gradient_clip=config.optimizer.gradient_clip,
    )
    parallel = parallelize(
        lambda axis_name: make_update(
            objective,
            optimizer,
            ema_decay=config.optimizer.ema_decay,
            schedule=schedule,
            num_parts=config.gradient_accumulation,
            axis_name=axis_name,
        ),
        mode=config.parallel,
        batch_size=config.data.batch_size,
        num_parts=config.gradient_accumulation,
        sharded=moments_and_average if config.optimizer.sharded else None,
    )

    def read(start: int) -> Iterator[dict[str, np.ndarray]]:
        return make_pair_loader(
            pairs.subset(train),
            batch_size=config.data.batch_size,
            crop_px=config.data.crop_px,
            flip=config.data.flip,
            seed=config.data.seed,
            start=start,
            rows=parallel.rows.own,
            num_workers=config.data.num_workers,
        )

    pictures = TeacherPictures(
        config,
        held_out_pairs(
            config.data.sources,
            validation_fraction=config.data.validation_fraction,
            num_pairs=4,
        ),
    )
    return Run(
        config=config,
        # No cache: pairs are named by the configuration alone.
        meta=run_metadata(config, cache_hash="", cache_config=""),
        read=read,
        parallel=parallel,
        optimizer=optimizer,
        init_params=_first_params(config, init_params),
        draw=pictures.write,
    )


def _network(config: TeacherTrainingConfig) -> tuple[Objective, InitParams, int]:
    """Returns what is minimised, key -> first parameters, and the network's stride."""
    dtype = jnp.dtype(config.compute_dtype)
    index = jnp.zeros(1, jnp.int32)
    if config.teacher == "ddfm":
        network, stride = UNet(config.prior, dtype=dtype), config.prior.stride
        images = (jnp.zeros((1, stride, stride, config.prior.in_channels)),)
        objective = prior_objective(network, config.prior)
    else:
        network = MaskDifuserNet(config.restorer, dtype=dtype)
        stride = config.restorer.stride
        images = (jnp.zeros((1, stride, stride, 3)),) * 3
        objective = restorer_objective(
            network, conflict_share=config.conflict_share, salient=config.salient
        )
    if config.teacher == "ddfm" and config.prior.in_channels != 1:
        raise FusionProxyError(
            f"prior.in_channels is {config.prior.in_channels}; a prior trained here "
            "is one of luminance, so it must be 1"
        )

    def init_params(key: jax.Array):
        return network.init(key, *images, index)["params"]

    return objective, init_params, stride


def _first_params(config: TeacherTrainingConfig, random: InitParams) -> InitParams:
    """Returns key -> first parameters: random ones, or those of `start_from`."""
    if config.start_from is None:
        return random
    load = load_prior if config.teacher == "ddfm" else load_restorer
    found, _ = load(config.start_from)
    wanted = config.prior if config.teacher == "ddfm" else config.restorer
    if found.config != wanted:
        raise FusionProxyError(
            f"{config.start_from} holds another network than this run trains; give the "
            "same network's settings or start from random weights"
        )
    return lambda key: found.params


def as_network(config: dict, params: Any) -> LearnedPrior | Restorer:
    """Returns the network of a run, from its stored configuration.

    Raises:
        FusionProxyError: The run trained something else.
    """
    if "teacher" not in config or "prior" not in config:
        raise FusionProxyError(
            "this run trained a student, not a teacher; export it with "
            "`fusionproxy export`"
        )
    if config["teacher"] == "ddfm":
        return LearnedPrior(params, from_json(UNetConfig, config["prior"]))
    return Restorer(params, from_json(MaskDifuserNetConfig, config["restorer"]))
