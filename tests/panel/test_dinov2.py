from copy import deepcopy
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from fusionproxy_jax.checkpoints.checkpoint_file import open_checkpoint
from fusionproxy_jax.checkpoints.conversion import convert
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.dinov2 import (
    DINOV2_BASE,
    DINOV2_SMALL,
    Dinov2,
    Dinov2Config,
)
from fusionproxy_jax.panel.vit import resample_positions

TINY = Dinov2Config(
    image_size=56, width=12, num_layers=3, num_heads=3, mlp_ratio=2, tap=2
)
# The size the positions were learned at; as many patches in another shape; sides that
# are no multiple of a patch.
SIZES = ((56, 56), (28, 112), (79, 44))
OTHER = (28, 42)


def torch_config(config: Dinov2Config) -> transformers.Dinov2Config:
    return transformers.Dinov2Config(
        image_size=config.image_size,
        patch_size=config.patch,
        hidden_size=config.width,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
    )


def shapes(config, *, whole):
    images = jax.ShapeDtypeStruct((1, 28, 28, 3), jnp.float32)
    return jax.eval_shape(Dinov2(config, whole).init, jax.random.key(0), images)[
        "params"
    ]


def draw(size, *, seed=0, batch=2) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((batch, *size, 3))
    return values.astype(np.float32)


@cache
def compiled(whole, dtype):
    return jax.jit(Dinov2(TINY, whole, dtype).apply)


def run(params, images, *, whole=True, dtype=jnp.float32):
    return compiled(whole, dtype)({"params": params}, images)


@pytest.fixture(scope="module")
def reference():
    """Every tensor redrawn, those too that training starts at one or zero."""
    network = transformers.Dinov2Model(torch_config(TINY)).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        factor = name.endswith(("norm1.weight", "norm2.weight", "layernorm.weight"))
        factor |= name.endswith("lambda1")
        dense = name.endswith(("proj.weight", "fc1.weight", "fc2.weight"))
        torch.nn.init.normal_(
            parameter,
            mean=float(factor),
            std=parameter.shape[1] ** -0.5 if dense else 0.4,
            generator=generator,
        )
    return network


@pytest.fixture(scope="module")
def params(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    reference.save_pretrained(folder)
    with open_checkpoint(folder / "model.safetensors") as source:
        return convert(
            source,
            DINOV2_BASE.key_table(TINY),
            shapes(TINY, whole=True),
            ignored=DINOV2_BASE.ignored,
            prefixes=DINOV2_BASE.prefixes,
        )


def outputs(reference, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the modules of transformers' network return, by our names."""
    modules = {
        "patch_embedding": reference.embeddings.patch_embeddings,
        "block_1": reference.encoder.layer[0],
        "tap": reference.encoder.layer[TINY.tap - 1],
        "norm": reference.layernorm,
    }
    found = {}
    handles = [
        module.register_forward_hook(
            lambda module, given, output, name=name: found.update({name: output})
        )
        for name, module in modules.items()
    ]
    with torch.no_grad():
        reference(torch.from_numpy(images).permute(0, 3, 1, 2))
    for handle in handles:
        handle.remove()
    return {name: values.numpy() for name, values in found.items()}


@pytest.mark.parametrize("size", SIZES)
def test_the_port_agrees_with_transformers(reference, params, size):
    images = draw(size)
    features, found = run(params, images)
    wanted = outputs(reference, images)
    b, gh, gw, c = 2, size[0] // 14, size[1] // 14, TINY.width
    for name, got in {
        "patch_embedding": found["patch_embedding"].reshape(b, gh * gw, c),
        "block_1": found["block_1"],
        "norm": found["norm"],
    }.items():
        np.testing.assert_allclose(got, wanted[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        features, wanted["tap"][:, 1:].reshape(b, gh, gw, c), rtol=1e-4, atol=1e-5
    )


def test_the_epsilon_of_norms_is_that_of_transformers(reference, params):
    """Tokens of a variance near 1e-6, where it decides."""
    faint = deepcopy(reference)
    scale = 2e-3
    for parameter in faint.embeddings.parameters():
        parameter.data *= scale
    embeddings = ("patch_embedding", "class_token", "positions")
    scaled = params | jax.tree.map(
        lambda values: values * np.float32(scale),
        {name: params[name] for name in embeddings},
    )
    images = 0.1 * draw(SIZES[0])
    _, found = run(scaled, images)
    wanted = outputs(faint, images)
    tokens = found["patch_embedding"]
    assert 1e-7 < tokens.var(-1).mean() < 1e-5
    np.testing.assert_allclose(
        found["block_1"], wanted["block_1"], rtol=1e-4, atol=1e-5
    )


def test_the_network_that_ends_at_the_tap_gives_the_features_of_the_whole(params):
    images = draw(OTHER)
    whole, _ = run(params, images)
    kept = {name: params[name] for name in shapes(TINY, whole=False)}
    assert params.keys() - kept.keys() == {"block_3", "norm"}
    features, found = run(kept, images, whole=False)
    np.testing.assert_allclose(features, whole, rtol=1e-5, atol=1e-6)
    assert found.keys() == {"patch_embedding", "block_1"}


@pytest.mark.parametrize("prefix", ["", "dinov2.", "module.dinov2."])
def test_files_of_classifiers_fit_with_their_prefix(
    reference, params, tmp_path, prefix
):
    reference.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "embeddings.mask_token" in tensors
    tensors = {f"{prefix}{name}": values for name, values in tensors.items()}
    save_file(tensors | {"classifier.weight": torch.ones(2, 24)}, tmp_path / "x")
    with open_checkpoint(tmp_path / "x") as source:
        got = convert(
            source,
            DINOV2_BASE.key_table(TINY),
            shapes(TINY, whole=True),
            ignored=DINOV2_BASE.ignored,
            prefixes=DINOV2_BASE.prefixes,
        )
    jax.tree.map(np.testing.assert_array_equal, got, params)


@pytest.mark.parametrize("model", [DINOV2_SMALL, DINOV2_BASE], ids=lambda m: m.name)
def test_full_size_has_as_many_parameters_as_transformers(model):
    with torch.device("meta"):
        network = transformers.Dinov2Model(torch_config(model.config))
    wanted = sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if name != "embeddings.mask_token"
    )
    template = shapes(model.config, whole=True)
    assert sum(leaf.size for leaf in jax.tree.leaves(template)) == wanted


def test_the_published_networks_have_the_sizes_of_the_paper():
    assert DINOV2_BASE.config == Dinov2Config(
        image_size=518, patch=14, width=768, num_layers=12, num_heads=12, mlp_ratio=4
    )
    assert DINOV2_SMALL.config == Dinov2Config(
        image_size=518, patch=14, width=384, num_layers=12, num_heads=6, mlp_ratio=4
    )


@pytest.mark.parametrize(
    ("given", "size"),
    [((256, 256), (252, 252)), ((480, 637), (476, 630)), ((9, 14), (14, 14))],
)
def test_images_are_seen_at_the_next_lower_multiple_of_a_patch(given, size):
    assert DINOV2_BASE.input_size(DINOV2_BASE.config, *given) == size


@pytest.mark.parametrize("old", [(37, 37), (5, 8)])
@pytest.mark.parametrize("new", [(37, 37), (18, 18), (16, 40), (1, 3)])
def test_positions_are_resampled_as_torch_does(old, new):
    table = np.random.default_rng(0).standard_normal((*old, 3)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(table).permute(2, 0, 1)[None],
        size=new,
        mode="bicubic",
        align_corners=False,
    )[0].permute(1, 2, 0)
    got = resample_positions(jnp.asarray(table), new)
    # Torch computes the places in float32.
    np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=1e-5)


def test_bfloat16_gives_close_features_in_float32(params):
    images = draw(OTHER)
    exact, _ = run(params, images, whole=False)
    close, found = run(params, images, whole=False, dtype=jnp.bfloat16)
    assert close.dtype == jnp.float32
    assert found["block_1"].dtype == jnp.bfloat16
    # Eight bits of mantissa through two blocks.
    error = np.linalg.norm(close - exact) / np.linalg.norm(exact)
    assert 0 < error < 0.03


def test_gradient_of_a_feature_distance_agrees_with_finite_differences(params):
    images, target = draw(OTHER, batch=1), draw(OTHER, seed=1, batch=1)
    theirs, _ = run(params, target, whole=False)

    @jax.jit
    def distance(images):
        return jnp.mean(jnp.square(run(params, images, whole=False)[0] - theirs))

    gradient = jax.jit(jax.grad(distance))(images)
    for seed in range(2, 5):
        direction = draw(OTHER, seed=seed, batch=1)
        step = 1e-3
        slope = (
            distance(images + step * direction) - distance(images - step * direction)
        ) / (2 * step)
        np.testing.assert_allclose(np.vdot(gradient, direction), slope, rtol=1e-2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"tap": 13}, "dinov2.tap is 13; it must be a block from 1 to 12"),
        ({"image_size": 512}, "dinov2.image_size is 512; it must be a multiple of"),
        ({"num_heads": 7}, "dinov2.width is 768; it must be a multiple of num_heads 7"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(setting, message):
    with pytest.raises(FusionProxyError, match=message):
        Dinov2Config(**setting)
