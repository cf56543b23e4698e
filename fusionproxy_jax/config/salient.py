"""The band-wise choice between the sources: our deviation from both teachers."""

from dataclasses import dataclass

from fusionproxy_jax.config.checks import require, settle_types


@dataclass(frozen=True, kw_only=True)
class SalientConfig:
    """Band-wise rectification of DDFM, our deviation for teaching more than a blend."""

    # Detail bands of the Laplacian pyramid; the base band comes on top.
    num_detail_bands: int = 4
    # Sharpness of the choice by local energy in detail bands.
    detail_power: float = 5.0
    # Energy by which infrared must exceed visible detail, in [-1, 1]: sensor noise.
    noise_floor: float = 8e-3
    # Share of the weaker source added back in detail bands.
    weaker_share: float = 0.05
    # Amplification of detail bands; makes up for what averaging samples takes away.
    detail_gain: float = 1.15
    # Sharpness of the choice of the brighter source in the base band.
    base_gain: float = 3.0
    # Share of "visible plus thermal contrast" in the base; the rest is the brighter
    # source.
    contrast_share: float = 0.6
    # How far warm contrast is limited to the range left above the visible base, and
    # cold contrast to the range below; 0 adds all of it, 1 never leaves the range.
    warm_headroom: float = 0.9
    cold_headroom: float = 0.4
    # Standard deviation of the smooth random field in the log-odds of an open choice,
    # in detail bands and in the base.
    detail_spread: float = 1.0
    base_spread: float = 3.5

    def __post_init__(self) -> None:
        """Rejects pyramids a tile cannot be halved into and shares outside [0, 1]."""
        settle_types(self, "teacher.salient.")
        require(
            1 <= self.num_detail_bands <= 5,
            "teacher.salient.num_detail_bands",
            self.num_detail_bands,
            "between 1 and 5",
        )
        require(
            self.noise_floor > 0,
            "teacher.salient.noise_floor",
            self.noise_floor,
            "> 0",
        )
        for name in (
            "weaker_share",
            "contrast_share",
            "warm_headroom",
            "cold_headroom",
        ):
            value = getattr(self, name)
            require(
                0 <= value <= 1, f"teacher.salient.{name}", value, "between 0 and 1"
            )
        for name in (
            "detail_power",
            "detail_gain",
            "base_gain",
            "detail_spread",
            "base_spread",
        ):
            value = getattr(self, name)
            require(value >= 0, f"teacher.salient.{name}", value, ">= 0")
