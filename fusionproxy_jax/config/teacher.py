"""The teacher ensemble: which teachers, how each samples, how many samples."""

from dataclasses import dataclass, field
from typing import Literal

from fusionproxy_jax.config.checks import require, settle_types
from fusionproxy_jax.config.salient import SalientConfig

TeacherName = Literal["ddfm", "mask_difuser", "gaussian", "average"]


@dataclass(frozen=True, kw_only=True)
class DDFMConfig:
    """DDFM: a prior, and a rectification of each of its estimates."""

    # `compact` is the prior in the package; else a file: a guided-diffusion checkpoint
    # (.pt) or one of ours (.safetensors). Teacher `gaussian` takes none.
    weights: str = "compact"
    mode: Literal["released", "paper", "balanced", "salient"] = "salient"
    # 100 is DDFM's own count; few serve for caching (unchanged means and spread).
    num_steps: int = 12
    eta: float = 0.0
    luma: Literal["full", "studio"] = "full"
    # Chroma of a colour prior's state: its own guess, as released, or the visible
    # image's at every step.
    chroma: Literal["prior", "visible"] = "prior"
    # Maps every sample's range to [0, 1], as released: a random gain per sample.
    stretch: bool = False

    def __post_init__(self) -> None:
        """Rejects counts no chain can have."""
        settle_types(self, "teacher.ddfm.")
        _check_chain("ddfm", self.num_steps, self.eta)


@dataclass(frozen=True, kw_only=True)
class MaskDifuserConfig:
    """Mask-DiFuser: restoration of one image from two views, the sources."""

    # `compact` is the network in the package; else a file, see DDFMConfig.
    weights: str = "compact"
    # 5 as released.
    num_steps: int = 6
    eta: float = 1.0
    # 1 looks the noise table up one place too far, as released; 0 is correct.
    index_shift: Literal[0, 1] = 0
    # As in DDFMConfig.
    stretch: bool = False

    def __post_init__(self) -> None:
        """Rejects counts no chain can have."""
        settle_types(self, "teacher.mask_difuser.")
        _check_chain("mask_difuser", self.num_steps, self.eta)


def _check_chain(name: str, num_steps: int, eta: float) -> None:
    require(
        1 <= num_steps <= 1000,
        f"teacher.{name}.num_steps",
        num_steps,
        "between 1 and 1000",
    )
    require(0 <= eta <= 1, f"teacher.{name}.eta", eta, "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Diffusion teacher ensemble (Sec. 3.2, Eqs. 3-5).

    `gaussian` is DDFM with a prior that needs no training; `average` is the plain
    average with the visible image's colour, a control.
    """

    # The paper's pair is ("ddfm", "mask_difuser"); of the compact teachers, DDFM alone
    # measured best (experiments/teachers/README.md).
    teachers: tuple[TeacherName, ...] = ("ddfm",)
    num_samples: int = 4
    ddfm: DDFMConfig = field(default_factory=DDFMConfig)
    mask_difuser: MaskDifuserConfig = field(default_factory=MaskDifuserConfig)
    salient: SalientConfig = field(default_factory=SalientConfig)
    # Training images are fixed square tiles: statistics match what is trained on.
    tile_px: int = 256
    # Of more tiles, this many evenly spread ones are drawn; None draws all.
    tiles_per_image: int | None = None
    # What Eq. 7 weights by: Eq. 5 over all samples, or the mean over teachers of each
    # one's own variance, which their disagreement is no part of. Eq. 6 takes all.
    variance: Literal["total", "within"] = "total"
    # What learned networks compute in; statistics and rectification stay float32.
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Rejects empty or doubled ensembles and tiles the pyramid cannot halve."""
        settle_types(self, "teacher.")
        require(
            len(self.teachers) > 0, "teacher.teachers", self.teachers, "at least one"
        )
        require(
            len(set(self.teachers)) == len(self.teachers),
            "teacher.teachers",
            self.teachers,
            "without repetition; raise teacher.num_samples for more samples of one",
        )
        require(self.num_samples >= 1, "teacher.num_samples", self.num_samples, ">= 1")
        # As `seed` of a run: keys are made of 32 bits.
        require(
            0 <= self.seed < 2**32, "teacher.seed", self.seed, "between 0 and 2**32 - 1"
        )
        require(
            self.tile_px >= 32 and self.tile_px % 32 == 0,
            "teacher.tile_px",
            self.tile_px,
            "a positive multiple of 32",
        )
        require(
            self.tiles_per_image is None or self.tiles_per_image >= 1,
            "teacher.tiles_per_image",
            self.tiles_per_image,
            ">= 1, or none for all",
        )
