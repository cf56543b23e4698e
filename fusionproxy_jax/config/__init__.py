"""Everything the paper names and a sweep may vary, as frozen dataclasses.

Defaults are the paper's values; where the paper is silent they are ours and the comment
says so. A constant nobody varies stays a keyword default of its function. Functions
below `build_*` take the numbers they need, never a config object.
"""

from fusionproxy_jax.config.identity import config_hash, from_json, to_json
from fusionproxy_jax.config.networks import MaskDifuserNetConfig, UNetConfig
from fusionproxy_jax.config.panel import PanelConfig
from fusionproxy_jax.config.salient import SalientConfig
from fusionproxy_jax.config.student import StudentConfig
from fusionproxy_jax.config.teacher import (
    DDFMConfig,
    MaskDifuserConfig,
    TeacherConfig,
)
from fusionproxy_jax.config.teacher_training import (
    COMPACT_PRIOR,
    COMPACT_RESTORER,
    TeacherTrainingConfig,
)
from fusionproxy_jax.config.training import (
    Config,
    DataConfig,
    LossConfig,
    MisalignmentConfig,
    OptimizerConfig,
)

__all__ = [
    "COMPACT_PRIOR",
    "COMPACT_RESTORER",
    "Config",
    "DDFMConfig",
    "DataConfig",
    "LossConfig",
    "MaskDifuserConfig",
    "MaskDifuserNetConfig",
    "MisalignmentConfig",
    "OptimizerConfig",
    "PanelConfig",
    "SalientConfig",
    "StudentConfig",
    "TeacherConfig",
    "TeacherTrainingConfig",
    "UNetConfig",
    "config_hash",
    "from_json",
    "to_json",
]
