"""State dicts of the networks here under the names that timm stores."""

import re

MOBILENET_LAYERS = {
    "start_depthwise": "dw_start",
    "expand": "pw_exp",
    "middle_depthwise": "dw_mid",
    "project": "pw_proj",
}
ATTENTION_LAYERS = {
    "halve": "stride_conv",
    "query": "q",
    "key": "k",
    "value": "v",
    "local_value": "v_local",
    "project": "proj",
    "before_softmax": "talking_head1",
    "after_softmax": "talking_head2",
}
FEED_FORWARD_LAYERS = {"expand": "fc1", "middle": "mid", "project": "fc2"}
PARTS = ("conv", "bn")

# (key here, what it is called there, given the key's groups).
MOBILENET_V4 = (
    (r"stem\.0\.(\w+)", "conv_stem.{}"),
    (r"stem\.1\.(\w+)", "bn1.{}"),
    (r"fused\.expand\.0\.(\w+)", "blocks.0.0.conv_exp.{}"),
    (r"fused\.expand\.1\.(\w+)", "blocks.0.0.bn1.{}"),
    (r"fused\.project\.0\.(\w+)", "blocks.0.0.conv_pwl.{}"),
    (r"fused\.project\.1\.(\w+)", "blocks.0.0.bn2.{}"),
    (
        r"stages\.(\d)\.(\d+)\.layers\.(\w+)\.(\d)\.(\w+)",
        lambda stage, block, layer, part, name: (
            f"blocks.{int(stage) + 1}.{block}.{MOBILENET_LAYERS[layer]}."
            f"{PARTS[int(part)]}.{name}"
        ),
    ),
    (r"wide\.0\.(\w+)", "blocks.4.0.conv.{}"),
    (r"wide\.1\.(\w+)", "blocks.4.0.bn1.{}"),
    (r"wider\.0\.(\w+)", "conv_head.{}"),
    (r"wider\.1\.(\w+)", "norm_head.{}"),
    (r"classes\.(\w+)", "classifier.{}"),
)


def _token_mixer(stage, block, layer, part, name):
    layer, part = ATTENTION_LAYERS[layer], PARTS[int(part)]
    return f"stages.{stage}.blocks.{block}.token_mixer.{layer}.{part}.{name}"


def _query(layer):
    """The layer of the downsampling path, whose query has a local part too."""
    return "q.proj" if layer == "query" else ATTENTION_LAYERS[layer]


_BLOCK = r"blocks\.stage(\d)_block(\d+)"
EFFICIENTFORMER_V2 = (
    (r"stem\.(\d)\.(\w+)", lambda i, name: f"stem.conv1.{PARTS[int(i)]}.{name}"),
    (
        r"downsample\.0\.(\d)\.(\w+)",
        lambda part, name: f"stem.conv2.{PARTS[int(part)]}.{name}",
    ),
    (
        r"downsample\.(\d)\.(\d)\.(\w+)",
        lambda stage, part, name: (
            f"stages.{stage}.downsample.conv.{PARTS[int(part)]}.{name}"
        ),
    ),
    (
        r"attention_path\.path\.layers\.(\w+)\.(\d)\.(\w+)",
        lambda layer, part, name: (
            f"stages.3.downsample.attn.{_query(layer)}.{PARTS[int(part)]}.{name}"
        ),
    ),
    (
        r"attention_path\.path\.local_query\.(\w+)",
        "stages.3.downsample.attn.q.local.{}",
    ),
    (r"attention_path\.path\.bias", "stages.3.downsample.attn.attention_biases"),
    (_BLOCK + r"_attention\.branch\.layers\.(\w+)\.(\d)\.(\w+)", _token_mixer),
    (
        _BLOCK + r"_attention\.branch\.bias",
        "stages.{}.blocks.{}.token_mixer.attention_biases",
    ),
    (
        _BLOCK + r"_attention\.branch\.(\w+)\.(\w+)",
        lambda stage, block, layer, name: (
            f"stages.{stage}.blocks.{block}.token_mixer.{ATTENTION_LAYERS[layer]}.{name}"
        ),
    ),
    (_BLOCK + r"_attention\.scale", "stages.{}.blocks.{}.ls1.gamma"),
    (
        _BLOCK + r"_feed_forward\.branch\.(\w+)\.(\d)\.(\w+)",
        lambda stage, block, layer, part, name: (
            f"stages.{stage}.blocks.{block}.mlp.{FEED_FORWARD_LAYERS[layer]}."
            f"{PARTS[int(part)]}.{name}"
        ),
    ),
    (_BLOCK + r"_feed_forward\.scale", "stages.{}.blocks.{}.ls2.gamma"),
    (r"norm\.(\w+)", "norm.{}"),
    (r"classes\.(\w+)", "head.{}"),
    (r"distilled_classes\.(\w+)", "head_dist.{}"),
)

# From the names of transformers.
CONVNEXT_V2 = (
    (r"convnextv2\.embeddings\.patch_embeddings\.(\w+)", "stem.0.{}"),
    (r"convnextv2\.embeddings\.layernorm\.(\w+)", "stem.1.{}"),
    (
        r"convnextv2\.encoder\.stages\.(\d)\.downsampling_layer\.(\d)\.(\w+)",
        "stages.{}.downsample.{}.{}",
    ),
    *(
        (
            rf"convnextv2\.encoder\.stages\.(\d)\.layers\.(\d)\.{theirs}\.(\w+)",
            f"stages.{{}}.blocks.{{}}.{name}.{{}}",
        )
        for theirs, name in {
            "dwconv": "conv_dw",
            "layernorm": "norm",
            "pwconv1": "mlp.fc1",
            "grn": "mlp.grn",
            "pwconv2": "mlp.fc2",
        }.items()
    ),
    (r"convnextv2\.layernorm\.(\w+)", "head.norm.{}"),
    (r"classifier\.(\w+)", "head.fc.{}"),
)


def renamed(state, rules):
    """Returns the tensors under their other names; every one has exactly one."""
    found = {}
    for key, tensor in state.items():
        # The first that fits.
        match, name = next(
            (match, name)
            for pattern, name in rules
            if (match := re.fullmatch(pattern, key))
        )
        named = name.format if isinstance(name, str) else name
        found[named(*match.groups())] = tensor
    assert len(found) == len(state)
    return found
