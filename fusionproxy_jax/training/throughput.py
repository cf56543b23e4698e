"""Measures how many images a second a training step gets through, without a cache."""

import time
from collections.abc import Sequence

import jax
import numpy as np

from fusionproxy_jax.config import Config
from fusionproxy_jax.training.build import build_training
from fusionproxy_jax.training.panel_features import PanelFeatures
from fusionproxy_jax.training.state import new_state
from fusionproxy_jax.training.step_cost import batch_shapes


def random_batch(
    generator: np.random.Generator, config: Config, panel: PanelFeatures | None = None
) -> dict[str, np.ndarray]:
    """Returns a global batch of noise of the shapes and ranges of a real one."""
    return {
        name: generator.random(shape.shape, np.float32)
        for name, shape in batch_shapes(config, panel).items()
    }


def measure_throughput(
    config: Config,
    *,
    num_steps: int = 20,
    num_warmup_steps: int = 2,
    panel: PanelFeatures | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> float:
    """Returns the median over steps of images per second, all devices together.

    Times whole steps: batch to the devices, update, state back in place. Loading is
    left out, as it depends on disk and workers; compilation falls in the warm-up.
    """
    training = build_training(config, panel=panel, devices=devices)
    parallel = training.parallel
    init_key, step_key = jax.random.split(jax.random.key(config.seed))
    state = parallel.replicate(
        new_state(training.parts.init_params, training.parts.optimizer, init_key)
    )
    batch = random_batch(np.random.default_rng(config.seed), config, panel)
    batch = {
        name: array[: training.process_batch_size] for name, array in batch.items()
    }
    seconds = []
    for _ in range(num_warmup_steps + num_steps):
        start = time.perf_counter()
        state, _ = parallel.run(state, parallel.shard_batch(batch), step_key)
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - start)
    return config.data.batch_size / float(np.median(seconds[num_warmup_steps:]))
