"""The student network."""

from dataclasses import dataclass
from typing import Literal

from fusionproxy_jax.config.checks import require


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
        require(
            len(self.widths) == len(self.depths) > 0,
            "student.depths",
            self.depths,
            f"one number per stage of student.widths {self.widths}",
        )
        for name in ("widths", "depths"):
            value = getattr(self, name)
            require(min(value) > 0, f"student.{name}", value, "all positive")
        for name in ("stem_width", "attention_reduction"):
            value = getattr(self, name)
            require(value >= 1, f"student.{name}", value, ">= 1")
