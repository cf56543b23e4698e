"""A population's step compiled once and fed with noise, to be timed beside others."""

import dataclasses
import time

import jax
import numpy as np

from fusionproxy_jax.config import Config
from fusionproxy_jax.training.build import build_parts
from fusionproxy_jax.training.knobs import stack_knobs
from fusionproxy_jax.training.noise import random_batch
from fusionproxy_jax.training.panel_features import PanelFeatures
from fusionproxy_jax.training.population_step import Member, populate
from fusionproxy_jax.training.state import new_states


class TimedPopulation:
    """The step of members that differ in their seeds, with states of their own.

    Attributes:
        compile_seconds: Time to trace, compile and make the first step.
    """

    def __init__(
        self,
        config: Config,
        *,
        num_members: int,
        members_at_once: int | None = None,
        panel: PanelFeatures | None = None,
    ) -> None:
        """Builds, compiles and runs the step once."""
        parts = build_parts(config, panel=panel)
        members = {
            str(seed): dataclasses.replace(config, seed=seed)
            for seed in range(num_members)
        }
        keys = jax.random.split(jax.random.key(config.seed), num_members)
        self._population = populate(
            parts.make_step,
            stack_knobs(members),
            keys,
            frozen=None if panel is None else panel.frozen,
            members_at_once=members_at_once,
        )
        states = new_states(parts.init_params, parts.optimizer, keys)
        self._members = self._population.place(
            Member(states, np.zeros(num_members, np.int32))
        )
        self._batch = random_batch(np.random.default_rng(config.seed), config, panel)
        start = time.perf_counter()
        self.run()
        self.compile_seconds = time.perf_counter() - start

    def run(self) -> None:
        """Makes one step of all members to its end, batch to the devices included."""
        batch = self._population.place_batch(self._batch)
        self._members, _ = self._population.run(self._members, batch)
        jax.block_until_ready(self._members)
