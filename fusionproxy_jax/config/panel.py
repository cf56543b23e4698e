"""The foundation panel the student is aligned to."""

from dataclasses import dataclass
from typing import Literal

from fusionproxy_jax.config.checks import require, settle_types


@dataclass(frozen=True, kw_only=True)
class PanelConfig:
    """Frozen backbones Phi_k (Sec. 3.4), by name.

    `vgg16`, `dinov2`, `clip`, `sam` and their small variants; `onnx:FILE#TENSOR` for
    any network; `paper` for the four of the paper; `compact` for two small detectors;
    `auto` for the first of these two whose weights are all here, or none. Empty
    switches Eq. 10 off. In training, `auto` is what the teacher cache holds.
    """

    backbones: tuple[str, ...] = ("auto",)
    # Side of the common grid of feature variances and of the loss; training takes the
    # cache's.
    grid: int = 64
    # Tiles that each channel's scale is measured on; all when there are fewer.
    scale_tiles: int = 256
    # Eq. 9 as it stands, or the features of the ensemble mean, Eq. 4; training takes
    # the cache's.
    target: Literal["mean_of_features", "features_of_mean"] = "mean_of_features"

    def __post_init__(self) -> None:
        """Rejects doubled backbones and counts below one."""
        settle_types(self, "panel.")
        require(
            len(set(self.backbones)) == len(self.backbones),
            "panel.backbones",
            self.backbones,
            "without repetition",
        )
        for name in ("grid", "scale_tiles"):
            require(
                getattr(self, name) >= 1, f"panel.{name}", getattr(self, name), ">= 1"
            )
