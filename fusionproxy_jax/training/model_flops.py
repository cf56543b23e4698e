"""Operations of a training step that are the model's: forward and backward products.

Counted from shapes by the usual convention (`evaluation.complexity`), so that the
number is the same on every device and for every way to write a layer. XLA's count of
the compiled step is another thing: the body of a loop enters once, however often it
runs, and losses, optimiser and what is computed twice to save memory enter too.
"""

from dataclasses import dataclass
from typing import Any

import jax

from fusionproxy_jax.config import Config, StudentConfig
from fusionproxy_jax.evaluation.complexity import (
    multiply_adds,
    pair_shapes,
    parameter_shapes,
)
from fusionproxy_jax.models.student import Student
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.training.panel_features import PanelFeatures


@dataclass(frozen=True, kw_only=True)
class ModelFlops:
    """Of one step on one batch, two a multiply-add.

    Attributes:
        student_forward: Of the student.
        student: Forward and backward; about three times `student_forward`, as gradients
            go to parameters and inputs of all layers but the first.
        panel_forward: Of the backbones; 0 without a panel, as the next.
        panel: Forward and backward; about twice `panel_forward`, as frozen parameters
            get no gradient.
    """

    student_forward: int
    student: int
    panel_forward: int = 0
    panel: int = 0

    @property
    def total(self) -> int:
        """Student and panel."""
        return self.student + self.panel


def model_flops(config: Config, panel: PanelFeatures | None = None) -> ModelFlops:
    """Returns the operations of a step of `config`, global batch; computes nothing.

    Args:
        config: The run.
        panel: What it aligns to; leaves of its `frozen` need only shape and dtype.
    """
    side, num_images = config.data.crop_px, config.data.batch_size
    module = countable_student(config.student)
    pair = pair_shapes(side, side, batch_size=num_images)
    params = parameter_shapes(module, *pair)

    def fuse(params: Any, *pair: Any) -> jax.Array:
        return module.apply({"params": params}, *pair)

    def fuse_both_ways(params: Any, *pair: Any) -> Any:
        return jax.jvp(lambda moved: fuse(moved, *pair), (params,), (params,))

    student_forward = 2 * multiply_adds(fuse, params, *pair)
    # Forward derivatives in place of backward ones: the transpose of a linear map costs
    # what the map costs, and nothing is computed again in this direction.
    student = 2 * multiply_adds(fuse_both_ways, params, *pair)
    if panel is None:
        return ModelFlops(student_forward=student_forward, student=student)

    def extract_both_ways(frozen: Any, images: Any) -> Any:
        return jax.jvp(lambda moved: panel.extract(frozen, moved), (images,), (images,))

    features = panel.frozen, pair[0]
    return ModelFlops(
        student_forward=student_forward,
        student=student,
        panel_forward=2 * multiply_adds(panel.extract, *features),
        panel=2 * multiply_adds(extract_both_ways, *features),
    )


def countable_student(config: StudentConfig) -> Student:
    """Returns the student in the form whose products are those of its layers.

    Depthwise convolutions are convolutions, and interpolation holds no product.
    """
    return build_student(config, grouped=True, upsample=_repeat)


def _repeat(x: jax.Array) -> jax.Array:
    return x.repeat(2, axis=1).repeat(2, axis=2)
