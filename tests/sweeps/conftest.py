"""Sweeps whose members are not trained, and pairs to hold out."""

from pathlib import Path

import fake_population
import numpy as np
import pytest
from PIL import Image
from tiny_student import TINY

from fusionproxy_jax.config import Config, DataConfig, LossConfig, OptimizerConfig
from fusionproxy_jax.input_pipeline.synthetic import synthetic_pair


class Cache:
    """All that a sweep itself wants of a teacher cache."""

    hash = "feed0123"


@pytest.fixture
def cache():
    return Cache()


@pytest.fixture
def untrained(monkeypatch):
    """Has members run through `fake_population`."""
    monkeypatch.setattr(
        "fusionproxy_jax.sweeps.run.train_population", fake_population.train_population
    )


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Path:
    """Four pairs of 48x56 px, two of which a fraction of 0.5 holds out."""
    root = tmp_path_factory.mktemp("data") / "pairs"
    for name in ("visible", "infrared"):
        (root / name).mkdir(parents=True)
    for index in range(4):
        pair = synthetic_pair(index, height=48, width=56)
        infrared = np.round(255 * pair["infrared"]).astype(np.uint8)
        Image.fromarray(pair["visible"]).save(root / f"visible/{index}.png")
        Image.fromarray(infrared).save(root / f"infrared/{index}.png")
    return root


@pytest.fixture
def make_config(pairs):
    """Returns configurations of a tiny student, if asked for with held-out pairs."""

    def make(
        *,
        seed: int = 0,
        temperature: float = 1.0,
        learning_rate: float = 0.01,
        held_out: bool = False,
        **changes,
    ) -> Config:
        sources = (str(pairs),) if held_out else ()
        values = {
            "student": TINY,
            "data": DataConfig(sources=sources, validation_fraction=0.5),
            "num_steps": 4,
            "log_every": 2,
            **changes,
        }
        return Config(
            seed=seed,
            loss=LossConfig(routing_temperature=temperature),
            optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_steps=1),
            **values,
        )

    return make
