import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from panel import transformers_oracle as oracle

from fusionproxy_jax.checkpoints.layout import shape_after
from fusionproxy_jax.checkpoints.weights import flatten
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.sam import SAM_BASE, SamConfig

# Blocks within windows and over the map in turn; eight patches a side, so that windows
# of three never fit it.
TINY = dataclasses.replace(
    SAM_BASE,
    config=SamConfig(
        image_size=64,
        patch=8,
        width=24,
        num_layers=3,
        num_heads=2,
        mlp_ratio=2,
        window=3,
        global_layers=(1,),
        out_channels=10,
        tap=2,
        side_px=32,
    ),
)
MODULES = {
    "patch_embedding": "vision_encoder.patch_embed",
    "block_1": "vision_encoder.layers.0",
    "features": f"vision_encoder.layers.{TINY.config.tap - 1}",
    "neck": "vision_encoder.neck",
}


def _vision_config(config):
    return transformers.SamVisionConfig(
        hidden_size=config.width,
        output_channels=config.out_channels,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        image_size=config.image_size,
        patch_size=config.patch,
        mlp_ratio=float(config.mlp_ratio),
        window_size=config.window,
        global_attn_indexes=config.global_layers,
    )


@pytest.fixture(scope="module")
def network():
    return oracle.randomised(transformers.SamVisionModel(_vision_config(TINY.config)))


@pytest.fixture(scope="module")
def params(network, tmp_path_factory):
    return oracle.saved_and_converted(network, TINY, tmp_path_factory.mktemp("sam"))


def _reference(network, pictures):
    """Outputs of transformers' network at any size, its positions resampled by torch.

    Its attention resamples the relative positions itself.
    """
    encoder, patch = network.vision_encoder, TINY.config.patch
    size = pictures.shape[1:3]
    own = encoder.pos_embed, encoder.patch_embed.image_size
    positions = torch.nn.functional.interpolate(
        own[0].permute(0, 3, 1, 2),
        size=(size[0] // patch, size[1] // patch),
        mode="bicubic",
        align_corners=False,
    ).permute(0, 2, 3, 1)
    encoder.pos_embed = torch.nn.Parameter(positions)
    encoder.patch_embed.image_size = size
    try:
        found = oracle.outputs(network, MODULES, pictures)
    finally:
        encoder.pos_embed, encoder.patch_embed.image_size = own
    found["neck"] = found["neck"].transpose(0, 2, 3, 1)
    return found


@pytest.mark.parametrize(
    "size",
    [(64, 64), (40, 72), (48, 24), (16, 31)],
    ids=["native", "other", "whole windows", "less than a window"],
)
def test_every_stage_equals_the_reference(network, params, size):
    pictures = oracle.images(2, *size)
    features, ours = oracle.computed(TINY, params, pictures, whole=True)
    theirs = _reference(network, pictures)
    assert theirs.keys() == {"features", *ours}
    assert features.shape == (2, size[0] // 8, size[1] // 8, 24)
    for name, value in {"features": features, **ours}.items():
        np.testing.assert_allclose(
            value, theirs[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


def test_all_positions_count(network, params):
    # Otherwise the comparison above could not see them.
    pictures = oracle.images(2, 40, 72)
    features, _ = oracle.computed(TINY, params, pictures)
    for block, axis in ((1, "h"), (1, "w"), (2, "h"), (2, "w")):
        changed = jax.tree.map(lambda leaf: leaf, params)
        attention = changed[f"block_{block}"]["attention"]
        attention[f"rel_pos_{axis}"] = 0 * attention[f"rel_pos_{axis}"]
        other, _ = oracle.computed(TINY, changed, pictures)
        assert np.abs(other - features).max() > 0.01, (block, axis)


def test_the_tapped_network_is_the_start_of_the_whole(params):
    pictures = oracle.images(2, 40, 72)
    names = set(flatten(oracle.shapes(TINY, whole=False)))
    assert {name.split("/")[0] for name in names} == {
        *("patch_embedding", "positions", "block_1", "block_2")
    }
    start = {name: params[name] for name in oracle.shapes(TINY, whole=False)}
    assert set(flatten(start)) == names < set(flatten(params))
    features, intermediates = oracle.computed(TINY, start, pictures)
    assert intermediates.keys() == {"patch_embedding", "block_1"}
    np.testing.assert_array_equal(
        features, oracle.computed(TINY, params, pictures, whole=True)[0]
    )


def test_a_file_with_the_rest_of_the_model_gives_the_same_encoder(
    network, params, tmp_path
):
    config = transformers.SamConfig(
        vision_config=_vision_config(TINY.config),
        prompt_encoder_config=dict(
            hidden_size=8, image_size=64, patch_size=8, mask_input_channels=4
        ),
        mask_decoder_config=dict(
            hidden_size=8,
            mlp_dim=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            iou_head_hidden_dim=8,
        ),
    )
    full = transformers.SamModel(config)
    full.vision_encoder.load_state_dict(network.vision_encoder.state_dict())
    converted = flatten(oracle.saved_and_converted(full, TINY, tmp_path))
    for name, value in flatten(params).items():
        np.testing.assert_array_equal(converted[name], value, err_msg=name)


def test_the_full_size_network_has_the_published_tensors():
    with torch.device("meta"):
        state = transformers.SamVisionModel(
            transformers.SamVisionConfig()
        ).vision_encoder.state_dict()
    wanted = {
        name: leaf.shape for name, leaf in flatten(oracle.shapes(SAM_BASE)).items()
    }
    table = SAM_BASE.key_table(SAM_BASE.config)
    assert set(table) == set(state)
    assert wanted == {
        target: shape_after(transform, tuple(state[key].shape))
        for key, (target, transform) in table.items()
    }
    assert sum(map(np.prod, wanted.values())) == 89_670_912


def test_bfloat16_gives_close_features_in_float32(params):
    pictures = oracle.images(2, 40, 72)
    features, _ = oracle.computed(TINY, params, pictures)
    rounded, intermediates = oracle.computed(TINY, params, pictures, dtype=jnp.bfloat16)
    assert rounded.dtype == features.dtype == jnp.float32
    assert intermediates["patch_embedding"].dtype == jnp.bfloat16
    error = np.linalg.norm(rounded - features) / np.linalg.norm(features)
    # Rounding to eight bits, a few times over.
    assert 1e-4 < error < 0.02


def test_the_gradient_of_a_feature_distance_equals_differences(params):
    oracle.assert_gradient_of_feature_distance(
        TINY, params, oracle.images(2, 40, 72, seed=3)
    )


def test_images_are_seen_as_a_square_of_the_configured_side():
    assert SAM_BASE.input_size(SAM_BASE.config, 256, 320) == (512, 512)
    assert TINY.input_size(TINY.config, 10, 2000) == (32, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(image_size=500), "sam.image_size is 500; .* a multiple of patch 16"),
        (dict(num_heads=7), "sam.width is 768; .* a multiple of num_heads 7"),
        (dict(tap=0), "sam.tap is 0; it must be a block from 1 to 12"),
        (dict(tap=13), "sam.tap is 13"),
        (dict(side_px=8), "sam.side_px is 8; it must be at least one patch, 16"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(FusionProxyError, match=message):
        SamConfig(**options)
