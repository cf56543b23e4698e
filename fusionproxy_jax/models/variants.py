"""Named students and the one place that turns a configuration into a network."""

from types import MappingProxyType
from typing import Any

import jax.numpy as jnp

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.models.student import Student

STUDENTS = MappingProxyType({"base": StudentConfig()})
"""The released sizes; tests and the quick start use smaller configurations."""


def build_student(
    config: StudentConfig, *, dtype: Any = jnp.float32, **options: Any
) -> Student:
    """Returns the network of `config`.

    Args:
        config: Widths and depths.
        dtype: Computation dtype; parameters stay float32.
        **options: Export forms of the resampling and depthwise operations (`Student`).
    """
    return Student(
        stem_width=config.stem_width,
        widths=config.widths,
        depths=config.depths,
        attention_reduction=config.attention_reduction,
        dtype=dtype,
        **options,
    )


def student_config(name: str) -> StudentConfig:
    """Returns the configuration of a named student."""
    if name not in STUDENTS:
        raise FusionProxyError(f"no student {name!r}; students are {sorted(STUDENTS)}")
    return STUDENTS[name]
