"""A training step compiled once and fed with noise, to be timed in any company."""

import time
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from fusionproxy_jax.config import Config
from fusionproxy_jax.evaluation.accelerator import memory_bytes, xla_counts
from fusionproxy_jax.training.build import build_training
from fusionproxy_jax.training.noise import random_batch
from fusionproxy_jax.training.panel_features import PanelFeatures
from fusionproxy_jax.training.state import new_state

Batch = Mapping[str, np.ndarray]


class TimedStep:
    """The step of a run on its devices, with a state of its own.

    Attributes:
        batch: Noise, on the host.
        num_devices: That share the step.
        flops: XLA's count, all devices together; None where it gives none.
        bytes_accessed: XLA's count, as `flops`.
        memory_bytes: Held by one device, the donated state once; None where unknown.
        donated_bytes: Of the state that the next one takes the place of, on one device.
        compile_seconds: Time to trace and compile.
        dispatch_ms: Of every call of `run`, the host's time until the step is sent.
    """

    def __init__(
        self,
        config: Config,
        *,
        panel: PanelFeatures | None = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        """Builds and compiles the step.

        Raises:
            FusionProxyError: The crops do not fit the student, or the batch the
                devices.
        """
        training = build_training(config, panel=panel, devices=devices)
        self._parallel = training.parallel
        init_key, self._key = jax.random.split(jax.random.key(config.seed))
        self._state = self._parallel.replicate(
            new_state(training.parts.init_params, training.parts.optimizer, init_key)
        )
        noise = random_batch(np.random.default_rng(config.seed), config, panel)
        own = training.parallel.rows.own
        self.batch = {
            name: array[own.start : own.stop] for name, array in noise.items()
        }
        start = time.perf_counter()
        compiled = self._parallel.lower(
            self._state, self._parallel.shard_batch(self.batch), self._key
        ).compile()
        self.compile_seconds = time.perf_counter() - start
        self.num_devices = len(jax.devices() if devices is None else devices)
        # Of one device's program.
        self.flops, self.bytes_accessed = (
            count and count * self.num_devices for count in xla_counts(compiled)
        )
        self.memory_bytes = memory_bytes(compiled)
        memory = compiled.memory_analysis()
        self.donated_bytes = memory and memory.alias_size_in_bytes
        self.dispatch_ms: list[float] = []

    def run(self) -> None:
        """Makes one step to its end, batch to the devices included."""
        start = time.perf_counter()
        self._advance(self.batch)
        self.dispatch_ms.append(1000.0 * (time.perf_counter() - start))
        jax.block_until_ready(self._state)

    def run_ahead(self, batches: Iterator[Batch], num_steps: int) -> None:
        """Makes steps as a run does: one is sent while the last one computes."""
        previous = None
        for _ in range(num_steps):
            metrics = self._advance(next(batches))
            jax.block_until_ready(previous)
            previous = metrics
        jax.block_until_ready(self._state)

    def _advance(self, batch: Batch) -> object:
        self._state, metrics = self._parallel.run(
            self._state, self._parallel.shard_batch(batch), self._key
        )
        return metrics
