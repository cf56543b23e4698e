"""A port of two convolutions and a head, and Hugging Face caches made by hand."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save, save_file

from fusionproxy_jax.panel.foundation_model import FoundationModel

TABLE = {
    "stem.weight": ("stem/kernel", "conv"),
    "stem.bias": ("stem/bias", "as_is"),
    "body.weight": ("body/kernel", "conv"),
    "body.bias": ("body/bias", "as_is"),
    "head.weight": ("head/kernel", "linear"),
    "head.bias": ("head/bias", "as_is"),
}
BEFORE_TAP = ("stem.weight", "stem.bias", "body.weight", "body.bias")


@dataclass(frozen=True)
class TinyConfig:
    width: int = 4
    tap: str = "body"
    side_px: int = 24


class TinyNet(nn.Module):
    """Stem and body with a stride of 2 each; behind the tap, a head."""

    config: TinyConfig
    whole: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images):
        x = images.astype(self.dtype)
        for name in ("stem", "body"):
            x = nn.Conv(
                self.config.width,
                (3, 3),
                strides=(2, 2),
                padding=((1, 1), (1, 1)),
                dtype=self.dtype,
                name=name,
            )(x)
            x = nn.relu(x)
        if self.whole:
            nn.Dense(2, dtype=self.dtype, name="head")(x.mean((1, 2)))
        return x.astype(jnp.float32), {"body": x}


def tiny_model(name="tiny", **config) -> FoundationModel:
    return FoundationModel(
        name=name,
        repository=f"laboratory/{name}-net",
        licence="CC0-1.0",
        config=TinyConfig(**config),
        build=TinyNet,
        key_table=lambda config: TABLE,
        ignored=("classifier.*", "*position_ids"),
        prefixes=("module.", "tiny."),
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
        # Twice as high as wide, so that height and width cannot be exchanged unseen.
        input_size=lambda config, height, width: (2 * config.side_px, config.side_px),
    )


def tensors(width=4, seed=0) -> dict[str, np.ndarray]:
    """All tensors of the network as torch names and shapes them."""
    shapes = {
        "stem.weight": (width, 3, 3, 3),
        "stem.bias": (width,),
        "body.weight": (width, width, 3, 3),
        "body.bias": (width,),
        "head.weight": (2, width),
        "head.bias": (2,),
    }
    draw = np.random.default_rng(seed)
    return {
        name: draw.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def write(path: Path, given: dict[str, np.ndarray]) -> Path:
    save_file(given, path)
    return path


def add_snapshot(cache: Path, repository: str, files: dict[str, bytes]) -> Path:
    """Lays files out as the hub's client does: blobs, links to them, a reference."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = folder / "snapshots" / commit
    for made in (snapshot, folder / "blobs", folder / "refs"):
        made.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    for name, content in files.items():
        blob = hashlib.sha256(content).hexdigest()
        (folder / "blobs" / blob).write_bytes(content)
        (snapshot / name).unlink(missing_ok=True)
        (snapshot / name).symlink_to(Path("..") / ".." / "blobs" / blob)
    return snapshot


def add_weights(cache: Path, model: FoundationModel, **options) -> Path:
    """Puts random weights of a tiny model into the cache, as one safetensors file."""
    given = tensors(width=model.config.width, **options)
    snapshot = add_snapshot(cache, model.repository, {"model.safetensors": save(given)})
    return snapshot / "model.safetensors"
