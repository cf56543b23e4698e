"""Keys of timm's `mobilenetv4_conv_medium` (weights Apache-2.0)."""

from collections.abc import Collection, Sequence
from types import MappingProxyType

from fusionproxy_jax.models.mobilenet_v4 import STAGES
from fusionproxy_jax.models.pretrained_encoders.batch_norms import batch_normalised
from fusionproxy_jax.models.pretrained_encoders.published import (
    PublishedEncoder,
    Rules,
    Stage,
)


def _rules(depths: Sequence[int], names: Collection[str]) -> Rules:
    del names  # Which layers a block has is in the published table.
    layers = {
        "stem": ("conv_stem", "bn1"),
        "fused/expand": ("blocks.0.0.conv_exp", "blocks.0.0.bn1"),
        "fused/project": ("blocks.0.0.conv_pwl", "blocks.0.0.bn2"),
    }
    for stage, depth in enumerate(depths[1:]):
        for index, spec in enumerate(STAGES[stage][:depth]):
            kept = {
                "dw_start": "start_depthwise" if spec.start else None,
                "pw_exp": "expand",
                "dw_mid": "middle_depthwise" if spec.middle else None,
                "pw_proj": "project",
            }
            for theirs, ours in kept.items():
                if ours is not None:
                    layer = f"blocks.{stage + 1}.{index}.{theirs}"
                    target = f"stage{stage}_block{index}/{ours}"
                    layers[target] = (f"{layer}.conv", f"{layer}.bn")
    table = {}
    for target, (convolution, norm) in layers.items():
        table |= batch_normalised(convolution, norm, target, biased=False)
    return table


MOBILENET_V4 = PublishedEncoder(
    name="MobileNetV4-Conv-M of timm",
    encoder="mobilenet_v4",
    mark="blocks.1.0.pw_exp.conv.weight",
    stem="conv_stem.weight",
    stages=(
        Stage("blocks.0.", "blocks.0.", "blocks.0.0.conv_pwl.weight"),
        *(
            Stage(
                f"blocks.{stage}.",
                f"blocks.{stage}.",
                f"blocks.{stage}.0.pw_proj.conv.weight",
            )
            for stage in (1, 2, 3)
        ),
    ),
    settings=MappingProxyType({"normalization": "affine", "activation": "relu"}),
    rules=_rules,
    unused=("blocks.4.*", "conv_head.*", "norm_head.*", "classifier.*"),
)
