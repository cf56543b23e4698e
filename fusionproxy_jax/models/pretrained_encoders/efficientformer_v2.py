"""Keys of timm's `efficientformerv2_s1` (weights Apache-2.0)."""

from collections.abc import Collection, Sequence
from types import MappingProxyType

from fusionproxy_jax.models.pretrained_encoders.batch_norms import batch_normalised
from fusionproxy_jax.models.pretrained_encoders.published import (
    PublishedEncoder,
    Rules,
    Stage,
    weight_and_bias,
)

# The stage at 1/32.
_DENSE_STAGE = 3
_ATTENTION = MappingProxyType(
    {
        "q": "query",
        "k": "key",
        "v": "value",
        "v_local": "local_value",
        "proj": "project",
    }
)


def _layer(
    source: str, target: str, convolution: str = "conv", norm: str = "bn"
) -> Rules:
    return batch_normalised(
        f"{source}.{convolution}", f"{source}.{norm}", target, biased=True
    )


def _attention(source: str, target: str, *, halved: bool) -> Rules:
    """Returns the rules of a block's attention; `halved` attends at half the size."""
    table = {f"{source}.attention_biases": (f"{target}/bias/table", "square")}
    if halved:
        table |= _layer(f"{source}.stride_conv", f"{target}/halve")
    for theirs, ours in _ATTENTION.items():
        table |= _layer(f"{source}.{theirs}", f"{target}/{ours}")
    for theirs, ours in {
        "talking_head1": "before_softmax",
        "talking_head2": "after_softmax",
    }.items():
        table |= weight_and_bias(f"{source}.{theirs}", f"{target}/{ours}", "pointwise")
    return table


def _downsampling_attention(source: str, target: str) -> Rules:
    """Returns the rules of the path that attends from the finer to the coarser map."""
    table = {f"{source}.attention_biases": (f"{target}/bias/table", "square")}
    table |= weight_and_bias(f"{source}.q.local", f"{target}/local_query", "conv")
    for theirs, ours in {**_ATTENTION, "q.proj": "query"}.items():
        if theirs != "q":
            table |= _layer(f"{source}.{theirs}", f"{target}/{ours}")
    return table


def _block(source: str, target: str, names: Collection[str]) -> Rules:
    """Returns the rules of a block, of its attention only where the file has one.

    Published stages attend in their last two blocks. A student with fewer blocks
    attends in blocks that had no attention: it starts new there, scaled down as new
    branches are, and the stage begins as the published one does.
    """
    table = {f"{source}.ls2.gamma": (f"{target}_feed_forward_scale/scale", "as_is")}
    for theirs, ours in {"fc1": "expand", "mid": "middle", "fc2": "project"}.items():
        table |= _layer(f"{source}.mlp.{theirs}", f"{target}_feed_forward/{ours}")
    if f"{source}.ls1.gamma" in names:
        table[f"{source}.ls1.gamma"] = (f"{target}_attention_scale/scale", "as_is")
        table |= _attention(
            f"{source}.token_mixer",
            f"{target}_attention",
            halved=f"{source}.token_mixer.stride_conv.conv.weight" in names,
        )
    return table


def _rules(depths: Sequence[int], names: Collection[str]) -> Rules:
    table = _layer("stem.conv1", "stem") | _layer("stem.conv2", "downsample0")
    for stage, depth in enumerate(depths):
        downsample = f"stages.{stage}.downsample"
        if stage > 0:
            table |= _layer(f"{downsample}.conv", f"downsample{stage}")
        if stage == _DENSE_STAGE:
            table |= _downsampling_attention(f"{downsample}.attn", "attention_path")
        for index in range(depth):
            source, target = (
                f"stages.{stage}.blocks.{index}",
                f"stage{stage}_block{index}",
            )
            table |= _block(source, target, names)
    return table


EFFICIENTFORMER_V2 = PublishedEncoder(
    name="EfficientFormerV2 of timm",
    encoder="efficientformer_v2",
    mark="stages.0.blocks.0.mlp.mid.conv.weight",
    stem="stem.conv1.conv.weight",
    stages=(
        Stage("stages.0.", "stages.0.blocks.", "stem.conv2.conv.weight"),
        *(
            Stage(
                f"stages.{stage}.",
                f"stages.{stage}.blocks.",
                f"stages.{stage}.downsample.conv.conv.weight",
            )
            for stage in (1, 2, 3)
        ),
    ),
    settings=MappingProxyType({"normalization": "affine", "activation": "gelu"}),
    rules=_rules,
    # The numbers of offsets follow from the image size; early versions stored them.
    unused=("norm.*", "head.*", "head_dist.*", "*.attention_bias_idxs"),
)
