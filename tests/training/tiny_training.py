"""A student of two convolutions and a cache in memory: whole runs in seconds."""

import dataclasses
import json
import types
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fusionproxy_jax.config import (
    Config,
    DataConfig,
    MisalignmentConfig,
    OptimizerConfig,
    StudentConfig,
)

SIDE = 32


class TinyStudent(nn.Module):
    """Stands in for the student wherever the network does not matter."""

    dtype: Any = jnp.float32
    stride: int = 4

    @nn.compact
    def __call__(self, visible, infrared):
        x = jnp.concatenate([visible, infrared], axis=-1)
        x = nn.Conv(8, (3, 3), dtype=self.dtype)(x)
        x = nn.LayerNorm(dtype=self.dtype)(nn.gelu(x))
        return visible + nn.Conv(3, (3, 3), dtype=self.dtype)(x).astype(jnp.float32)


def build_tiny(config: StudentConfig, *, dtype: Any = jnp.float32) -> TinyStudent:
    return TinyStudent(dtype=dtype)


def make_tile(index: int) -> dict:
    """A dark scene with a warm disc; the target is brighter where it is warm."""
    generator = np.random.default_rng(index)
    side = SIDE + 16
    rows, columns = np.mgrid[:side, :side]
    centre = generator.uniform(8, side - 8, 2)
    warm = np.hypot(rows - centre[0], columns - centre[1]) < 6
    visible = generator.integers(0, 80, (side, side, 3), dtype=np.uint8)
    infrared = np.where(warm, 0.9, 0.1)
    mean = np.maximum(visible / 255, infrared[..., None])
    return {
        "id": f"disc/{index}",
        "valid_height": side,
        "valid_width": side,
        "visible": visible,
        "infrared": infrared.astype(np.float16),
        "ensemble_mean": mean.astype(np.float16),
        "ensemble_deviation": np.full((side, side), 0.02, np.float16),
    }


@dataclasses.dataclass
class TinyCache:
    """What the loop needs of a teacher cache."""

    num_tiles: int = 12
    hash: str = "feed0123"
    config_json: str = "{}"
    broken: bool = False
    panel: tuple = ()
    unfinished_panel: tuple = ()
    directory: Path = Path("cache")
    manifest: Any = dataclasses.field(
        default_factory=lambda: types.SimpleNamespace(images=())
    )

    def __len__(self) -> int:
        return self.num_tiles

    def __getitem__(self, index: int) -> dict:
        tile = make_tile(index)
        if self.broken and index == self.num_tiles - 1:
            tile["ensemble_mean"] = np.full_like(tile["ensemble_mean"], np.nan)
        return tile


def tiny_config(**changes: Any) -> Config:
    config = Config(
        data=DataConfig(batch_size=4, crop_px=SIDE),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
        misalignment=MisalignmentConfig(
            translation_px=2.0, rotation_deg=1.0, probability=0.5
        ),
        num_steps=12,
        log_every=1,
        checkpoint_every=3,
        picture_every=100,
        keep_checkpoints=2,
    )
    return dataclasses.replace(config, **changes)


def tiny_batch(batch_size: int = 4, side: int = SIDE) -> dict[str, np.ndarray]:
    """Float32 arrays as the loader gives them."""
    tiles = [make_tile(index) for index in range(batch_size)]
    cut = (slice(None), slice(0, side), slice(0, side))
    stacked = {
        key: np.stack([tile[key] for tile in tiles])[cut].astype(np.float32)
        for key in ("visible", "infrared", "ensemble_mean", "ensemble_deviation")
    }
    return {
        "visible": stacked["visible"] / 255,
        "infrared": stacked["infrared"][..., None],
        "ensemble_mean": stacked["ensemble_mean"],
        "ensemble_variance": np.square(stacked["ensemble_deviation"]),
    }


def metric_rows(workdir: Path) -> list[dict]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
