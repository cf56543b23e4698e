"""Keys of ConvNeXt V2 in timm's and in transformers' files (weights CC-BY-NC-4.0).

The published stem is followed by a normalisation and a stage at its own scale. The
student's encoder has neither: its first stage is the published second one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.models.pretrained_encoders.published import (
    PublishedEncoder,
    Rules,
    Stage,
    weight_and_bias,
)

_STEM_STRIDE = 4


class _Names(NamedTuple):
    """How a library calls the parts; `{}` stands for the number of a stage."""

    stem: str
    stage: str
    downsample: str
    blocks: str
    # Our name -> theirs.
    layers: Mapping[str, str]


_TIMM = _Names(
    stem="stem.0",
    stage="stages.{}.",
    downsample="stages.{}.downsample",
    blocks="stages.{}.blocks.",
    layers=MappingProxyType(
        {
            "dwconv": "conv_dw",
            "norm": "norm",
            "pwconv1": "mlp.fc1",
            "grn": "mlp.grn",
            "pwconv2": "mlp.fc2",
        }
    ),
)
_TRANSFORMERS = _Names(
    stem="embeddings.patch_embeddings",
    stage="encoder.stages.{}.",
    downsample="encoder.stages.{}.downsampling_layer",
    blocks="encoder.stages.{}.layers.",
    layers=MappingProxyType(
        {
            "dwconv": "dwconv",
            "norm": "layernorm",
            "pwconv1": "pwconv1",
            "grn": "grn",
            "pwconv2": "pwconv2",
        }
    ),
)


def _block(source: str, target: str, layers: Mapping[str, str]) -> Rules:
    table = weight_and_bias(f"{source}.{layers['dwconv']}", f"{target}/dwconv", "conv")
    for ours in ("pwconv1", "pwconv2"):
        # Small networks of timm store a convolution here.
        table |= weight_and_bias(
            f"{source}.{layers[ours]}", f"{target}/{ours}", "pointwise"
        )
    table |= weight_and_bias(
        f"{source}.{layers['norm']}", f"{target}/norm", "as_is", "scale"
    )
    response = f"{source}.{layers['grn']}"
    table[f"{response}.weight"] = (f"{target}/grn/scale", "flat")
    table[f"{response}.bias"] = (f"{target}/grn/bias", "flat")
    return table


def _rules_of(names: _Names) -> Callable[[Sequence[int], Collection[str]], Rules]:
    def rules(depths: Sequence[int], keys: Collection[str]) -> Rules:
        del keys  # Every block has the same layers.
        table = weight_and_bias(names.stem, "stem", "conv")
        for stage, depth in enumerate(depths):
            downsample = names.downsample.format(stage + 1)
            table |= weight_and_bias(
                f"{downsample}.0", f"norm{stage}", "as_is", "scale"
            )
            table |= weight_and_bias(f"{downsample}.1", f"downsample{stage}", "conv")
            for index in range(depth):
                source = f"{names.blocks.format(stage + 1)}{index}"
                table |= _block(source, f"stage{stage}_block{index}", names.layers)
        return table

    return rules


def _differences(config: StudentConfig) -> list[str]:
    found = ["the published stem's norm and first stage have no place here"]
    if config.stem_stride != _STEM_STRIDE:
        found.append(
            f"the stem moves {config.stem_stride} pixels instead of {_STEM_STRIDE}"
        )
    return found


def _published(
    name: str, names: _Names, mark: str, unused: tuple[str, ...]
) -> PublishedEncoder:
    return PublishedEncoder(
        name=name,
        encoder="convnext_v2",
        mark=mark,
        stem=f"{names.stem}.weight",
        stages=tuple(
            Stage(
                names.stage.format(stage),
                names.blocks.format(stage),
                f"{names.downsample.format(stage)}.1.weight",
            )
            for stage in (1, 2, 3)
        ),
        settings=MappingProxyType(
            {
                "normalization": "layer",
                "activation": "gelu",
                "kernel_size": 7,
                "expansion": 4,
                "response_norm": True,
            }
        ),
        rules=_rules_of(names),
        unused=(f"{names.stage.format(0)}*", *unused),
        differences=_differences,
    )


CONVNEXT_V2_TIMM = _published(
    "ConvNeXt V2 of timm",
    _TIMM,
    "stages.1.blocks.0.mlp.grn.weight",
    ("stem.1.*", "norm_pre.*", "head.*"),
)
CONVNEXT_V2_TRANSFORMERS = _published(
    "ConvNeXt V2 of transformers",
    _TRANSFORMERS,
    "encoder.stages.1.layers.0.grn.weight",
    ("embeddings.layernorm.*", "layernorm.*", "hidden_states_norms.*", "classifier.*"),
)
