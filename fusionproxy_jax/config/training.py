"""One distillation run: losses, misalignment, optimiser, data and steps."""

import math
from dataclasses import dataclass, field
from typing import Literal

from fusionproxy_jax.config.checks import INFINITE, require, settle_types
from fusionproxy_jax.config.panel import PanelConfig
from fusionproxy_jax.config.student import StudentConfig
from fusionproxy_jax.config.teacher import TeacherConfig


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and constants of Eqs. 7-12."""

    pixel_weight: float = 1.0
    alignment_weight: float = 0.5
    structure_weight: float = 0.2
    # Squared norm of Eq. 10 over channels; `sum` is literal, see `feature_distances`.
    alignment_norm: Literal["mean", "sum"] = "mean"
    # Eq. 7's epsilon, in squared [0, 1] units: a standard deviation of 0.032.
    epsilon: float = 1e-3
    # `variance` (Eq. 8), `uniform`, `learned` (one weight a backbone), or
    # `single:BACKBONE`: rows (h), (e), (f) and (d) of Table 4.
    routing: str = "variance"
    # Eq. 8's tau; infinity is uniform routing.
    routing_temperature: float = field(default=1.0, metadata=INFINITE)
    # With it the temperature goes there over the run, by the same ratio every step.
    routing_temperature_end: float | None = None

    def __post_init__(self) -> None:
        """Rejects negative weights and a temperature at which Eq. 8 is undefined."""
        settle_types(self, "loss.")
        for name in ("pixel_weight", "alignment_weight", "structure_weight"):
            value = getattr(self, name)
            require(value >= 0, f"loss.{name}", value, ">= 0")
        require(self.epsilon > 0, "loss.epsilon", self.epsilon, "> 0")
        require(
            self.routing in ("variance", "uniform", "learned")
            or self.routing.startswith("single:"),
            "loss.routing",
            self.routing,
            "variance, uniform, learned or single:BACKBONE",
        )
        start, end = self.routing_temperature, self.routing_temperature_end
        require(
            start > 0,
            "loss.routing_temperature",
            start,
            "> 0; take a small one such as 1e-3 to give every place to one backbone",
        )
        if end is not None:
            require(
                self.routing == "variance",
                "loss.routing_temperature_end",
                end,
                f"none with loss.routing {self.routing}",
            )
            require(
                0 < end < math.inf and 0 < start < math.inf,
                "loss.routing_temperature_end",
                end,
                "finite and > 0, and so must loss.routing_temperature",
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
        settle_types(self, "misalignment.")
        for name in ("translation_px", "rotation_deg"):
            value = getattr(self, name)
            require(value >= 0, f"misalignment.{name}", value, ">= 0")
        require(
            0 <= self.probability <= 1,
            "misalignment.probability",
            self.probability,
            "between 0 and 1",
        )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with warm-up, cosine decay and weight averaging; the paper names none."""

    # `sgd` has a momentum of 0.9, and weight decay enters its gradient.
    method: Literal["adamw", "sgd"] = "adamw"
    # Peak, for a batch of `reference_batch_size`.
    learning_rate: float = 2e-4
    # How the peak grows with data.batch_size over the reference: not, by the ratio
    # (usual with SGD), or by its square root (usual with Adam).
    batch_scaling: Literal["none", "linear", "sqrt"] = "none"
    # The paper's batch.
    reference_batch_size: int = 8
    # Each device keeps a part of the moments and the weight average (ZeRO, stage 1);
    # needs `parallel` to be jit.
    sharded: bool = False
    weight_decay: float = 0.05
    warmup_steps: int = 500
    gradient_clip: float = 1.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        """Rejects values no optimiser can run with."""
        settle_types(self, "optimizer.")
        require(
            self.reference_batch_size >= 1,
            "optimizer.reference_batch_size",
            self.reference_batch_size,
            ">= 1",
        )
        require(
            self.warmup_steps >= 0, "optimizer.warmup_steps", self.warmup_steps, ">= 0"
        )
        require(
            self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "> 0"
        )
        require(
            self.gradient_clip > 0, "optimizer.gradient_clip", self.gradient_clip, "> 0"
        )
        require(
            self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, ">= 0"
        )
        require(
            0 <= self.ema_decay < 1, "optimizer.ema_decay", self.ema_decay, "in [0, 1)"
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pairs come from and how they are cut into training batches."""

    # Folders of pairs, or tfds:NAME for a prepared data set.
    sources: tuple[str, ...] = ()
    validation_fraction: float = 0.1
    # Square cut from a tile; with a panel a run takes whole tiles, never flipped, as
    # features belong to all of it.
    crop_px: int = 256
    batch_size: int = 8
    flip: bool = True
    seed: int = 0
    num_workers: int = 0

    def __post_init__(self) -> None:
        """Rejects fractions that leave no training data and crops SSIM cannot see."""
        settle_types(self, "data.")
        require(
            0 <= self.validation_fraction < 1,
            "data.validation_fraction",
            self.validation_fraction,
            "in [0, 1)",
        )
        require(
            self.crop_px >= 32 and self.crop_px % 16 == 0,
            "data.crop_px",
            self.crop_px,
            "a multiple of 16, at least 32",
        )
        require(self.batch_size >= 1, "data.batch_size", self.batch_size, ">= 1")
        require(self.num_workers >= 0, "data.num_workers", self.num_workers, ">= 0")
        require(self.seed >= 0, "data.seed", self.seed, ">= 0")


def check_run(config: "Config") -> None:
    """Rejects counts below one and what `parallel` cannot do, of any run's config."""
    for name in (
        "num_steps",
        "gradient_accumulation",
        "log_every",
        "checkpoint_every",
        "picture_every",
        "keep_checkpoints",
    ):
        require(getattr(config, name) >= 1, name, getattr(config, name), ">= 1")
    # Keys are made of 32 bits; JAX drops the others without a word.
    require(0 <= config.seed < 2**32, "seed", config.seed, "between 0 and 2**32 - 1")
    require(
        not config.optimizer.sharded or config.parallel == "jit",
        "parallel",
        config.parallel,
        "`jit` with optimizer.sharded, as pmap keeps everything on every device",
    )


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
    # Weights to begin with: a released student's name, or a file written by
    # `fusionproxy export`; none starts from random ones.
    start_from: str | None = None
    # ImageNet weights for both encoders to begin with: a torch or safetensors file of
    # timm or transformers; none starts from random ones.
    encoder_weights: str | None = None
    seed: int = 0
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    parallel: Literal["pmap", "jit"] = "pmap"
    # Parts of a batch that a device works on one after the other; their gradients are
    # added up, so that a large batch fits a small memory.
    gradient_accumulation: int = 1
    log_every: int = 50
    checkpoint_every: int = 500
    picture_every: int = 1000
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        """Rejects counts below one, and two beginnings for the encoders."""
        settle_types(self)
        require(
            self.encoder_weights is None or self.start_from is None,
            "encoder_weights",
            self.encoder_weights,
            f"none with start_from {self.start_from!r}, whose weights include the "
            "encoders'",
        )
        check_run(self)
