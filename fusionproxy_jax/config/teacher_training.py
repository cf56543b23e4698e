"""Training a compact teacher's network from scratch."""

from dataclasses import dataclass, field
from typing import Literal

from fusionproxy_jax.config.checks import require, settle_types
from fusionproxy_jax.config.networks import MaskDifuserNetConfig, UNetConfig
from fusionproxy_jax.config.salient import SalientConfig
from fusionproxy_jax.config.training import (
    DataConfig,
    OptimizerConfig,
    check_run,
)

# Fits two CPU cores; luminance only, fully convolutional.
COMPACT_PRIOR = UNetConfig(
    in_channels=1,
    out_channels=1,
    base_width=48,
    multipliers=(1, 2, 3),
    num_blocks=1,
    attention_factors=(),
    num_groups=8,
    patch_px=4,
    prediction="velocity",
)

# Works on patches of 4 px; its mixture head carries the fine detail around them.
COMPACT_RESTORER = MaskDifuserNetConfig(
    base_width=40,
    multipliers=(1, 2, 3),
    num_blocks=1,
    self_attention_levels=(),
    cross_attention_levels=(2,),
    content_widths=(40, 48, 64),
    semantic_widths=(48, 64, 64, 64),
    semantic_layers=2,
    semantic_heads=4,
    semantic_hidden=256,
    num_groups=8,
    patch_px=4,
    head="mixture",
    prediction="clean",
)


@dataclass(frozen=True, kw_only=True)
class TeacherTrainingConfig:
    """One run of `fusionproxy train-teacher`; defaults are ours."""

    teacher: Literal["ddfm", "mask_difuser"] = "ddfm"
    # The network of the chosen teacher; the other one is not read.
    prior: UNetConfig = COMPACT_PRIOR
    restorer: MaskDifuserNetConfig = COMPACT_RESTORER
    # Mask-DiFuser: share of examples whose views are the two sources (`views.py`), and
    # the knobs of the choice between them.
    conflict_share: float = 0.6
    salient: SalientConfig = field(default_factory=SalientConfig)

    data: DataConfig = field(
        default_factory=lambda: DataConfig(crop_px=128, batch_size=8)
    )
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(weight_decay=0.0)
    )
    num_steps: int = 20_000
    # A file written by `fusionproxy export-teacher` to begin with; none starts from
    # random weights.
    start_from: str | None = None
    seed: int = 0
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    parallel: Literal["pmap", "jit"] = "pmap"
    # As in `Config`.
    gradient_accumulation: int = 1
    log_every: int = 50
    checkpoint_every: int = 500
    picture_every: int = 1000
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        """Rejects counts below one and shares outside [0, 1]."""
        settle_types(self)
        require(
            0 <= self.conflict_share <= 1,
            "conflict_share",
            self.conflict_share,
            "between 0 and 1",
        )
        check_run(self)
