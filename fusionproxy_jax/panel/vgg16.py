"""VGG-16 without its classifier (Simonyan & Zisserman 2015; weights BSD-3-Clause).

Configuration D: 3x3 convolutions in five stages with 2x2 maxima between them. The
weights are torchvision's, which timm publishes as safetensors.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from fusionproxy_jax.config.checks import require
from fusionproxy_jax.panel.foundation_model import FoundationModel

Features = Float[Array, "b h w c"]

_DEPTHS = (2, 2, 3, 3, 3)


@dataclass(frozen=True, kw_only=True)
class Vgg16Config:
    """Channels of the five stages, and the ReLU whose output is taken."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    tap: str = "relu3_3"

    def __post_init__(self) -> None:
        """Rejects other numbers of stages and layers that there are not."""
        require(
            len(self.widths) == len(_DEPTHS),
            "vgg16.widths",
            self.widths,
            f"{len(_DEPTHS)} numbers of channels",
        )
        taps = [f"relu{name}" for name, _ in _layers()]
        require(self.tap in taps, "vgg16.tap", self.tap, f"one of {', '.join(taps)}")


class Vgg16(nn.Module):
    """The convolutions up to the tap, or all thirteen."""

    config: Vgg16Config
    whole: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"]
    ) -> tuple[Float32[Array, "b gh gw c"], dict[str, Float[Array, "b _ _ _"]]]:
        """Returns the tapped features, and what every ReLU gave, by its name.

        The grid is the image's size, halved and rounded down before each stage but the
        first.
        """
        x = images.astype(self.dtype)
        relus = {}
        for name, stage in _layers():
            if name.endswith("_1") and stage > 1:
                x = _halved(x)
            x = nn.Conv(
                self.config.widths[stage - 1],
                (3, 3),
                padding=((1, 1), (1, 1)),
                dtype=self.dtype,
                name=f"conv{name}",
            )(x)
            x = relus[f"relu{name}"] = nn.relu(x)
            if f"relu{name}" == self.config.tap and not self.whole:
                break
        return relus[self.config.tap].astype(jnp.float32), relus


def vgg16_key_table(config: Vgg16Config) -> dict[str, tuple[str, str]]:
    """Returns torchvision's keys -> (path below "params", transform)."""
    del config  # The widths do not change the names.
    table = {}
    place = 0
    for name, stage in _layers():
        if name.endswith("_1") and stage > 1:
            place += 1  # The maximum.
        table[f"features.{place}.weight"] = (f"conv{name}/kernel", "conv")
        table[f"features.{place}.bias"] = (f"conv{name}/bias", "as_is")
        place += 2  # The convolution and its ReLU.
    return table


def _layers() -> Iterator[tuple[str, int]]:
    """Yields number and stage of every convolution: ("1_1", 1), ("1_2", 1), ..."""
    for stage, depth in enumerate(_DEPTHS, start=1):
        for number in range(1, depth + 1):
            yield f"{stage}_{number}", stage


def _halved(x: Features) -> Float[Array, "b h2 w2 c"]:
    """Returns maxima of 2x2 pixels; an odd last row or column is left out."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    # Not nn.max_pool, whose gradient takes six times as long on a CPU.
    return jnp.max(x.reshape(b, h // 2, 2, w // 2, 2, c), axis=(2, 4))


VGG16 = FoundationModel(
    name="vgg16",
    repository="timm/vgg16.tv_in1k",
    licence="BSD-3-Clause",
    config=Vgg16Config(),
    build=Vgg16,
    key_table=vgg16_key_table,
    ignored=("classifier.*", "head.*", "pre_logits.*"),
    prefixes=("module.",),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    input_size=lambda config, height, width: (height, width),
)
