"""The optimiser's part of a training step, to be timed alone."""

import jax
import jax.numpy as jnp
import optax

from fusionproxy_jax.config import Config
from fusionproxy_jax.training.build import build_parts
from fusionproxy_jax.training.state import TrainState, new_state, update_ema


class TimedUpdate:
    """Clipping, AdamW or SGD, and the weight average, of one state on one device."""

    def __init__(self, config: Config) -> None:
        """Compiles the update of the run's student."""
        parts = build_parts(config)
        self._state = new_state(
            parts.init_params, parts.optimizer, jax.random.key(config.seed)
        )
        self._gradients = jax.tree.map(jnp.ones_like, self._state.params)

        def update(state: TrainState, gradients: optax.Updates) -> TrainState:
            updates, opt_state = parts.optimizer.update(
                gradients, state.opt_state, state.params
            )
            params = optax.apply_updates(state.params, updates)
            average = update_ema(
                state.ema_params,
                params,
                step=state.step,
                decay=config.optimizer.ema_decay,
            )
            return TrainState(state.step + 1, params, average, opt_state)

        self._update = jax.jit(update, donate_argnums=(0,))
        self.run()

    def run(self) -> None:
        """Makes one update to its end."""
        self._state = self._update(self._state, self._gradients)
        jax.block_until_ready(self._state)
