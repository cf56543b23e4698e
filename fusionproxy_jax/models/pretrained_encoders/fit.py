"""Which encoder a file holds, and what a student needs to start from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusionproxy_jax.checkpoints.checkpoint_file import CheckpointFile
from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.models.pretrained_encoders.convnext_v2 import (
    CONVNEXT_V2_TIMM,
    CONVNEXT_V2_TRANSFORMERS,
)
from fusionproxy_jax.models.pretrained_encoders.efficientformer_v2 import (
    EFFICIENTFORMER_V2,
)
from fusionproxy_jax.models.pretrained_encoders.mobilenet_v4 import MOBILENET_V4
from fusionproxy_jax.models.pretrained_encoders.published import PublishedEncoder

PUBLISHED = (
    CONVNEXT_V2_TIMM,
    CONVNEXT_V2_TRANSFORMERS,
    MOBILENET_V4,
    EFFICIENTFORMER_V2,
)


def recognised(path: Path, names: Mapping[str, str]) -> PublishedEncoder:
    """Returns the kind of file by its keys.

    Raises:
        FusionProxyError: It is none of those known.
    """
    for published in PUBLISHED:
        keys = (published.stem, published.stages[0].width, published.mark)
        if all(key in names for key in keys):
            return published
    known = ", ".join(published.name for published in PUBLISHED)
    raise FusionProxyError(
        f"{path} holds no encoder that a student can start from; give an ImageNet "
        f"checkpoint of one of these: {known}"
    )


def check_fit(
    published: PublishedEncoder,
    source: CheckpointFile,
    names: Mapping[str, str],
    config: StudentConfig,
) -> None:
    """Refuses a student of another architecture or width, or with more blocks.

    Fewer stages and blocks than published are fine.

    Args:
        published: What the file holds.
        source: The open file.
        names: Names as in the rules -> keys of the file.
        config: The student.

    Raises:
        FusionProxyError: What differs, and the settings that would fit.
    """

    def channels(name: str) -> int:
        return next(iter(source.shape(names[name])), 0)

    stages = [stage for stage in published.stages if stage.width in names]
    stages = stages[: len(config.widths)]
    needed = {
        "encoder": published.encoder,
        "stem_width": channels(published.stem),
        "widths": tuple(channels(stage.width) for stage in stages),
        "depths": tuple(
            min(depth, stage.num_blocks(names))
            for depth, stage in zip(config.depths, stages, strict=False)
        ),
        **published.settings,
    }
    wrong = {
        name: value for name, value in needed.items() if getattr(config, name) != value
    }
    if wrong:
        given = ", ".join(f"{name} {getattr(config, name)!r}" for name in wrong)
        flags = " ".join(_flag(name, value) for name, value in wrong.items())
        raise FusionProxyError(
            f"{source.path} holds {published.name}, which does not fit a student with "
            f"{given}; give `{flags}`"
        )


def _flag(name: str, value: Any) -> str:
    """Returns a student's setting as the command takes it."""
    flag = f"--student.{name.replace('_', '-')}"
    if value is True:
        return flag
    values = value if isinstance(value, tuple) else (value,)
    return " ".join([flag, *map(str, values)])
