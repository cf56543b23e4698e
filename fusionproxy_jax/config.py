"""Everything the paper names and a sweep may vary, as frozen dataclasses.

Defaults are the paper's values; where the paper is silent they are ours and the comment
says so. A constant nobody varies stays a keyword default of its function. Functions
below `build_*` take the numbers they need, never a config object.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

from fusionproxy_jax.errors import FusionProxyError


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise FusionProxyError(f"{name} is {value!r}; it must be {allowed}")


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Dual-encoder student with residual fusion heads (Sec. 3.4, Eq. 13).

    The paper gives neither widths nor depths; these are ours, within the `base` budget.
    """

    encoder: Literal["convnext_v2"] = "convnext_v2"
    # Channels of the stem at 1/2 of the input size.
    stem_width: int = 24
    # Channels and blocks of the encoder stages at 1/4, 1/8, 1/16 of the input size.
    widths: tuple[int, ...] = (40, 80, 128)
    depths: tuple[int, ...] = (2, 2, 3)
    attention_reduction: int = 4

    def __post_init__(self) -> None:
        """Rejects stage lists that do not match or are empty."""
        _require(
            len(self.widths) == len(self.depths) > 0,
            "student.depths",
            self.depths,
            f"one number per stage of student.widths {self.widths}",
        )
        for name in ("widths", "depths"):
            value = getattr(self, name)
            _require(min(value) > 0, f"student.{name}", value, "all positive")
        for name in ("stem_width", "attention_reduction"):
            value = getattr(self, name)
            _require(value >= 1, f"student.{name}", value, ">= 1")

    @classmethod
    def from_json(cls, fields: dict[str, object]) -> "StudentConfig":
        """Returns the configuration whose `asdict` was stored as JSON."""
        # JSON has no tuples.
        return cls(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        )


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
    weaker_share: float = 0.1
    # Amplification of detail bands; makes up for what averaging samples takes away.
    detail_gain: float = 1.1
    # Sharpness of the choice of the brighter source in the base band.
    base_gain: float = 3.0
    # Share of "visible plus thermal contrast" in the base; the rest is the brighter
    # source.
    contrast_share: float = 0.55
    # How far warm contrast is limited to the range left above the visible base, and
    # cold contrast to the range below; 0 adds all of it, 1 never leaves the range.
    warm_headroom: float = 0.9
    cold_headroom: float = 0.4
    # Standard deviation of the smooth random field in the log-odds of an open choice.
    spread: float = 0.7

    def __post_init__(self) -> None:
        """Rejects pyramids a tile cannot be halved into and shares outside [0, 1]."""
        _require(
            1 <= self.num_detail_bands <= 5,
            "teacher.salient.num_detail_bands",
            self.num_detail_bands,
            "between 1 and 5",
        )
        _require(
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
            _require(
                0 <= value <= 1, f"teacher.salient.{name}", value, "between 0 and 1"
            )
        for name in ("detail_power", "detail_gain", "base_gain", "spread"):
            value = getattr(self, name)
            _require(value >= 0, f"teacher.salient.{name}", value, ">= 0")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Diffusion teacher ensemble (Sec. 3.2, Eqs. 3-5)."""

    teachers: tuple[Literal["ddfm"], ...] = ("ddfm",)
    prior: Literal["gaussian"] = "gaussian"
    mode: Literal["released", "paper", "balanced", "salient"] = "balanced"
    salient: SalientConfig = field(default_factory=SalientConfig)
    num_samples: int = 4
    # 100 is DDFM's own count; 25 serves for caching (unchanged means and spread).
    num_steps: int = 25
    eta: float = 0.0
    luma: Literal["full", "studio"] = "full"
    # Training images are fixed square tiles: statistics match what is trained on.
    tile_px: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Rejects counts below one and tiles the pyramid cannot halve."""
        _require(
            len(self.teachers) > 0, "teacher.teachers", self.teachers, "at least one"
        )
        _require(self.num_samples >= 1, "teacher.num_samples", self.num_samples, ">= 1")
        _require(
            1 <= self.num_steps <= 1000,
            "teacher.num_steps",
            self.num_steps,
            "between 1 and 1000",
        )
        _require(0 <= self.eta <= 1, "teacher.eta", self.eta, "between 0 and 1")
        _require(
            self.tile_px >= 32 and self.tile_px % 32 == 0,
            "teacher.tile_px",
            self.tile_px,
            "a positive multiple of 32",
        )


@dataclass(frozen=True, kw_only=True)
class PanelConfig:
    """Frozen backbones the student is aligned to; none switches Eq. 10 off."""

    backbones: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and constants of Eqs. 7-12."""

    pixel_weight: float = 1.0
    alignment_weight: float = 0.5
    structure_weight: float = 0.2
    # Eq. 7's epsilon, in squared [0, 1] units: a standard deviation of 0.032.
    epsilon: float = 1e-3
    routing: Literal["variance", "uniform"] = "variance"
    routing_temperature: float = 1.0

    def __post_init__(self) -> None:
        """Rejects negative weights and a temperature at which Eq. 8 is undefined."""
        for name in ("pixel_weight", "alignment_weight", "structure_weight"):
            value = getattr(self, name)
            _require(value >= 0, f"loss.{name}", value, ">= 0")
        _require(self.epsilon > 0, "loss.epsilon", self.epsilon, "> 0")
        _require(
            self.routing_temperature > 0,
            "loss.routing_temperature",
            self.routing_temperature,
            "> 0 (approach 0 for one-hot routing)",
        )


@dataclass(frozen=True, kw_only=True)
class MisalignmentConfig:
    """Misalignment injection (Sec. 3.5, Eq. 14), in pixels of a training crop."""

    translation_px: float = 10.0
    rotation_deg: float = 2.0
    # The paper injects always; exact alignment would then never be seen.
    probability: float = 0.5

    def __post_init__(self) -> None:
        """Rejects negative ranges and probabilities outside [0, 1]."""
        for name in ("translation_px", "rotation_deg"):
            value = getattr(self, name)
            _require(value >= 0, f"misalignment.{name}", value, ">= 0")
        _require(
            0 <= self.probability <= 1,
            "misalignment.probability",
            self.probability,
            "between 0 and 1",
        )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with warm-up, cosine decay and weight averaging; the paper names none."""

    learning_rate: float = 2e-4
    weight_decay: float = 0.05
    warmup_steps: int = 500
    gradient_clip: float = 1.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        """Rejects values no optimiser can run with."""
        _require(
            self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "> 0"
        )
        _require(
            self.gradient_clip > 0, "optimizer.gradient_clip", self.gradient_clip, "> 0"
        )
        _require(
            self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, ">= 0"
        )
        _require(
            0 <= self.ema_decay < 1, "optimizer.ema_decay", self.ema_decay, "in [0, 1)"
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pairs come from and how they are cut into training batches."""

    # Folders of pairs, or tfds:NAME for a prepared data set.
    sources: tuple[str, ...] = ()
    validation_fraction: float = 0.1
    crop_px: int = 256
    batch_size: int = 8
    flip: bool = True
    seed: int = 0
    num_workers: int = 0

    def __post_init__(self) -> None:
        """Rejects fractions that leave no training data and crops SSIM cannot see."""
        _require(
            0 <= self.validation_fraction < 1,
            "data.validation_fraction",
            self.validation_fraction,
            "in [0, 1)",
        )
        _require(
            self.crop_px >= 32 and self.crop_px % 16 == 0,
            "data.crop_px",
            self.crop_px,
            "a multiple of 16, at least 32",
        )
        _require(self.batch_size >= 1, "data.batch_size", self.batch_size, ">= 1")
        _require(self.num_workers >= 0, "data.num_workers", self.num_workers, ">= 0")
        _require(self.seed >= 0, "data.seed", self.seed, ">= 0")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run, from pairs to student."""

    student: StudentConfig = field(default_factory=StudentConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    panel: PanelConfig = field(default_factory=PanelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    misalignment: MisalignmentConfig = field(default_factory=MisalignmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)

    num_steps: int = 20_000
    seed: int = 0
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    parallel: Literal["pmap", "jit"] = "pmap"
    log_every: int = 50
    checkpoint_every: int = 500
    picture_every: int = 1000
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        """Rejects counts below one."""
        for name in (
            "num_steps",
            "log_every",
            "checkpoint_every",
            "picture_every",
            "keep_checkpoints",
        ):
            _require(getattr(self, name) >= 1, name, getattr(self, name), ">= 1")


def to_json(config: object) -> str:
    """Returns a config dataclass as JSON text with sorted keys."""
    return json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True)


def config_hash(*configs: object) -> str:
    """Returns 16 hex digits that change when any field of `configs` changes."""
    text = "\n".join(to_json(config) for config in configs)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
