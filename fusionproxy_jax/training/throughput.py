"""Measures how many images a second a training step gets through, without a cache."""

import time
from collections.abc import Sequence

import jax
import numpy as np

from fusionproxy_jax.config import Config
from fusionproxy_jax.training.build import build_training
from fusionproxy_jax.training.state import init_state


def random_batch(
    generator: np.random.Generator, batch_size: int, side_px: int
) -> dict[str, np.ndarray]:
    """Returns a batch of noise of the shapes and ranges of a real one."""
    shape = (batch_size, side_px, side_px)
    return {
        "visible": generator.random((*shape, 3), np.float32),
        "infrared": generator.random((*shape, 1), np.float32),
        "ensemble_mean": generator.random((*shape, 3), np.float32),
        "ensemble_variance": 0.01 * generator.random(shape, np.float32),
    }


def measure_throughput(
    config: Config,
    *,
    num_steps: int = 20,
    num_warmup_steps: int = 2,
    devices: Sequence[jax.Device] | None = None,
) -> float:
    """Returns the median over steps of images per second, all devices together.

    Times whole steps: batch to the devices, update, state back in place. Loading is
    left out, as it depends on disk and workers; compilation falls in the warm-up.
    """
    training = build_training(config, devices=devices)
    parallel = training.parallel
    init_key, step_key = jax.random.split(jax.random.key(config.seed))
    state = parallel.replicate(
        init_state(training.module, training.optimizer, init_key)
    )
    batch = random_batch(
        np.random.default_rng(config.seed),
        training.process_batch_size,
        config.data.crop_px,
    )
    seconds = []
    for _ in range(num_warmup_steps + num_steps):
        start = time.perf_counter()
        state, _ = parallel.run(state, parallel.shard_batch(batch), step_key)
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - start)
    return config.data.batch_size / float(np.median(seconds[num_warmup_steps:]))
