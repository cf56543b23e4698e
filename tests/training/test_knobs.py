import dataclasses

import numpy as np
import pytest

from fusionproxy_jax.config import Config, DataConfig, LossConfig, OptimizerConfig
from fusionproxy_jax.training.knobs import (
    TRACED,
    Knobs,
    peak_learning_rate,
    stack_knobs,
    static_settings,
)


@pytest.mark.parametrize(
    ("scaling", "factor"), [("none", 1), ("linear", 4), ("sqrt", 2)]
)
def test_the_learning_rate_grows_with_the_batch(scaling, factor):
    config = Config(
        data=DataConfig(batch_size=32),
        optimizer=OptimizerConfig(learning_rate=1e-3, batch_scaling=scaling),
    )
    assert peak_learning_rate(config) == pytest.approx(factor * 1e-3)
    assert Knobs.of(config).learning_rate == pytest.approx(factor * 1e-3)


def test_knobs_of_members_are_arrays_in_their_order():
    members = {
        "warm": Config(loss=LossConfig(routing_temperature=3.0)),
        "cold": Config(loss=LossConfig(routing_temperature=0.1)),
    }
    knobs = stack_knobs(members)
    np.testing.assert_allclose(knobs.routing_temperature, [3.0, 0.1])
    assert knobs.routing_temperature_end is None
    assert knobs.weight_decay.shape == (2,)


def test_only_numbers_of_a_step_may_differ_within_a_program():
    config = Config()
    moved = dataclasses.replace(
        config,
        seed=3,
        loss=LossConfig(epsilon=0.5, pixel_weight=2.0, routing_temperature=0.1),
        optimizer=OptimizerConfig(learning_rate=1.0, ema_decay=0.5),
    )
    assert static_settings(moved) == static_settings(config)
    for other in (
        dataclasses.replace(config, num_steps=5),
        dataclasses.replace(config, loss=LossConfig(alignment_weight=0.0)),
        dataclasses.replace(config, loss=LossConfig(routing_temperature_end=2.0)),
        dataclasses.replace(config, data=DataConfig(seed=1)),
    ):
        assert static_settings(other) != static_settings(config)


def test_traced_settings_are_settings():
    from fusionproxy_jax.config.identity import flat_settings

    assert set(flat_settings(dataclasses.asdict(Config()))) >= TRACED
