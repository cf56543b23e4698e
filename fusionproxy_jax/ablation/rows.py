"""The rows of Table 4 as functions of the default configuration.

Rows a to l are the paper's, c, h and l the default itself. Rows m to p try what the
paper left out: samples against teachers at equal cost, a teacher without opinion, and
two statistics that Sec. 3.2 could mean as well.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from fusionproxy_jax.config import Config

# Far beyond any variance of images in [0, 1]: float32 drops the variance beside it.
UNIFORM_EPSILON = 1e9
_VGG = "vgg16"

Change = Callable[[Config, Sequence[str]], Config]
"""(default configuration, names of the panel's backbones) -> that of the row."""


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    block: str
    variant: str
    """With names and numbers of the default to be filled in, see `title`."""
    change: Change
    needs_panel: bool = False
    student: str | None = None
    """Of the named students, where it has another than the default."""

    def config(self, base: Config, backbones: Sequence[str]) -> Config:
        """Returns the row's configuration."""
        return self.change(base, backbones)

    def title(self, base: Config, backbones: Sequence[str]) -> str:
        """Returns what varies, in words."""
        return self.variant.format(
            single=single_teacher(base),
            other=other_teacher(base),
            with_opinion=teacher_with_opinion(base),
            n=base.teacher.num_samples,
            half=base.teacher.num_samples // 2,
            backbone=lone_backbone(backbones) if backbones else "none here",
        )


def single_teacher(base: Config) -> str:
    """Returns the teacher that stands alone in rows a and b: Mask-DiFuser, if there."""
    teachers = base.teacher.teachers
    return "mask_difuser" if "mask_difuser" in teachers else teachers[-1]


def other_teacher(base: Config) -> str:
    """Returns the teacher that does not."""
    return next(t for t in base.teacher.teachers if t != single_teacher(base))


def teacher_with_opinion(base: Config) -> str:
    """Returns the teacher that stays in row n, where the plain average joins it."""
    teachers = other_teacher(base), single_teacher(base)
    return next(t for t in teachers if t != "average")


def lone_backbone(backbones: Sequence[str]) -> str:
    """Returns the backbone of row d: the paper's VGG, or the first one there is."""
    return _VGG if _VGG in backbones else backbones[0]


def _default(base: Config, backbones: Sequence[str]) -> Config:
    return base


def _teacher(change: Callable[[Config], dict]) -> Change:
    def changed(base: Config, backbones: Sequence[str]) -> Config:
        teacher = dataclasses.replace(base.teacher, **change(base))
        return dataclasses.replace(base, teacher=teacher)

    return changed


def _loss(change: Callable[[Sequence[str]], dict]) -> Change:
    def changed(base: Config, backbones: Sequence[str]) -> Config:
        loss = dataclasses.replace(base.loss, **change(backbones))
        return dataclasses.replace(base, loss=loss)

    return changed


def _student(name: str) -> Change:
    def changed(base: Config, backbones: Sequence[str]) -> Config:
        # Loads JAX, which a table of what exists does not need.
        from fusionproxy_jax.models.variants import student_config

        return dataclasses.replace(base, student=student_config(name))

    return changed


def _target(base: Config, backbones: Sequence[str]) -> Config:
    panel = dataclasses.replace(base.panel, target="features_of_mean")
    return dataclasses.replace(base, panel=panel)


def _routed(routing: str) -> dict:
    # An end of the temperature's way belongs to variance routing alone.
    return {"routing": routing, "routing_temperature_end": None}


TABLE_4 = MappingProxyType(
    {
        "a": Row(
            "A",
            "single teacher ({single}), N=1",
            _teacher(lambda b: {"teachers": (single_teacher(b),), "num_samples": 1}),
        ),
        "b": Row(
            "A",
            "single teacher ({single}), N={n}",
            _teacher(lambda b: {"teachers": (single_teacher(b),)}),
        ),
        "c": Row("A", "dual teacher ({single} + {other}), N={n} each", _default),
        "d": Row(
            "B",
            "one backbone only ({backbone})",
            _loss(lambda found: _routed(f"single:{lone_backbone(found)}")),
            needs_panel=True,
        ),
        "e": Row(
            "B",
            "whole panel, uniform weighting",
            # In variance routing, so that it is one program with the default.
            _loss(
                lambda found: {
                    "routing_temperature": math.inf,
                    "routing_temperature_end": None,
                }
            ),
            needs_panel=True,
        ),
        "f": Row(
            "B",
            "whole panel, learned global weights",
            _loss(lambda found: _routed("learned")),
            needs_panel=True,
        ),
        "g": Row(
            "B",
            "no uncertainty weighting (uniform pixel weights)",
            _loss(lambda found: {"epsilon": UNIFORM_EPSILON}),
        ),
        "h": Row("B", "full dual-signal (Eq. 8)", _default, needs_panel=True),
        "i": Row(
            "C",
            "ultra-light custom CNN",
            _student("ultra_light"),
            student="ultra_light",
        ),
        "j": Row(
            "C",
            "EfficientFormer V2-S1",
            _student("efficientformer_v2"),
            student="efficientformer_v2",
        ),
        "k": Row(
            "C",
            "MobileNetV4-Conv-M",
            _student("mobilenet_v4"),
            student="mobilenet_v4",
        ),
        "l": Row("C", "the default student", _default),
        "m": Row(
            "D",
            "dual teacher, N={half} each",
            _teacher(lambda b: {"num_samples": b.teacher.num_samples // 2}),
        ),
        "n": Row(
            "D",
            "{with_opinion} and the plain average as second teacher",
            _teacher(lambda b: {"teachers": (teacher_with_opinion(b), "average")}),
        ),
        "o": Row(
            "D",
            "pixel weights by the variance within teachers",
            _teacher(lambda b: {"variance": "within"}),
        ),
        "p": Row(
            "D",
            "target: features of the ensemble mean",
            _target,
            needs_panel=True,
        ),
    }
)
"""Letter -> row."""
