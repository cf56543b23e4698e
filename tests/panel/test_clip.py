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
from fusionproxy_jax.panel.clip import CLIP_BASE, CLIP_LARGE, ClipConfig, quick_gelu

TINY = dataclasses.replace(
    CLIP_LARGE,
    config=ClipConfig(
        image_size=40,
        patch=8,
        width=24,
        num_layers=3,
        num_heads=3,
        mlp_ratio=2,
        tap=2,
    ),
)
MODULES = {
    "patch_embedding": "embeddings.patch_embedding",
    "block_1": "encoder.layers.0",
    "features": f"encoder.layers.{TINY.config.tap - 1}",
    "post_norm": "post_layernorm",
}


def _vision_config(config):
    return transformers.CLIPVisionConfig(
        hidden_size=config.width,
        intermediate_size=config.mlp_ratio * config.width,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        image_size=config.image_size,
        patch_size=config.patch,
    )


@pytest.fixture(scope="module")
def network():
    return oracle.randomised(transformers.CLIPVisionModel(_vision_config(TINY.config)))


@pytest.fixture(scope="module")
def params(network, tmp_path_factory):
    return oracle.saved_and_converted(network, TINY, tmp_path_factory.mktemp("clip"))


@pytest.mark.parametrize(
    "size",
    [(40, 40), (8, 200), (51, 30)],
    ids=["native", "as many patches", "rests of patches"],
)
def test_every_stage_equals_the_reference(network, params, size):
    pictures = oracle.images(2, *size)
    features, ours = oracle.computed(TINY, params, pictures, whole=True)
    theirs = oracle.outputs(network, MODULES, pictures, interpolate_pos_encoding=True)
    assert theirs.keys() == {"features", *ours}
    assert features.shape == (2, size[0] // 8, size[1] // 8, 24)
    theirs["patch_embedding"] = theirs["patch_embedding"].transpose(0, 2, 3, 1)
    theirs["features"] = theirs["features"][:, 1:].reshape(features.shape)
    for name, value in {"features": features, **ours}.items():
        np.testing.assert_allclose(
            value, theirs[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


def test_at_its_own_size_the_reference_needs_no_resampling(network, params):
    pictures = oracle.images(2, 40, 40, seed=1)
    features, _ = oracle.computed(TINY, params, pictures, whole=True)
    theirs = oracle.outputs(network, MODULES, pictures)["features"]
    np.testing.assert_allclose(
        features, theirs[:, 1:].reshape(features.shape), rtol=1e-4, atol=1e-5
    )


def test_the_tapped_network_is_the_start_of_the_whole(params):
    pictures = oracle.images(2, 51, 30)
    start = {name: params[name] for name in oracle.shapes(TINY, whole=False)}
    assert set(start) == {
        *("class_token", "patch_embedding", "positions", "pre_norm"),
        *("block_1", "block_2"),
    }
    assert set(params) - set(start) == {"block_3", "post_norm"}
    features, intermediates = oracle.computed(TINY, start, pictures)
    assert intermediates.keys() == {"patch_embedding", "block_1"}
    np.testing.assert_allclose(
        features,
        oracle.computed(TINY, params, pictures, whole=True)[0],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("projection", [False, True])
def test_a_file_with_other_parts_gives_the_same_tower(
    network, params, tmp_path, projection
):
    vision = _vision_config(TINY.config)
    vision.projection_dim = 6
    if projection:
        full = transformers.CLIPVisionModelWithProjection(vision)
    else:
        text = dict(
            vocab_size=11,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=5,
        )
        full = transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config=text, vision_config=vision.to_dict(), projection_dim=6
            )
        )
    full.vision_model.load_state_dict(network.state_dict())
    converted = flatten(oracle.saved_and_converted(full, TINY, tmp_path))
    assert converted.keys() == flatten(params).keys()
    for name, value in flatten(params).items():
        np.testing.assert_array_equal(converted[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("model", "num_parameters"), [(CLIP_LARGE, 303_179_776), (CLIP_BASE, 85_799_424)]
)
def test_full_size_towers_have_the_published_tensors(model, num_parameters):
    with torch.device("meta"):
        state = transformers.CLIPVisionModel(_vision_config(model.config)).state_dict()
    wanted = {name: leaf.shape for name, leaf in flatten(oracle.shapes(model)).items()}
    table = model.key_table(model.config)
    assert set(table) == set(state)
    assert wanted == {
        target: shape_after(transform, tuple(state[key].shape))
        for key, (target, transform) in table.items()
    }
    assert sum(map(np.prod, wanted.values())) == num_parameters


def test_bfloat16_gives_close_features_in_float32(params):
    pictures = oracle.images(2, 51, 30)
    features, _ = oracle.computed(TINY, params, pictures)
    rounded, intermediates = oracle.computed(TINY, params, pictures, dtype=jnp.bfloat16)
    assert rounded.dtype == features.dtype == jnp.float32
    assert intermediates["patch_embedding"].dtype == jnp.bfloat16
    error = np.linalg.norm(rounded - features) / np.linalg.norm(features)
    # Rounding to eight bits, a few times over.
    assert 1e-4 < error < 0.02


def test_the_gradient_of_a_feature_distance_equals_differences(params):
    oracle.assert_gradient_of_feature_distance(
        TINY, params, oracle.images(2, 51, 30, seed=3)
    )


def test_the_quick_gelu_is_near_the_exact_one_but_not_equal():
    x = jnp.linspace(-4, 4, 101)
    gap = jnp.abs(quick_gelu(x) - jax.nn.gelu(x, approximate=False))
    assert 0.015 < gap.max() < 0.025
    np.testing.assert_allclose(quick_gelu(jnp.asarray(1.0)), 0.845796, rtol=1e-5)


def test_images_are_seen_as_the_towers_own_square():
    assert CLIP_LARGE.input_size(CLIP_LARGE.config, 256, 320) == (224, 224)
    assert TINY.input_size(TINY.config, 10, 2000) == (40, 40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(image_size=225), "clip.image_size is 225; .* a multiple of patch 14"),
        (dict(num_heads=3), "clip.width is 1024; .* a multiple of num_heads 3"),
        (dict(tap=0), "clip.tap is 0; it must be a block from 1 to 24"),
        (dict(tap=25), "clip.tap is 25"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(FusionProxyError, match=message):
        ClipConfig(**options)
