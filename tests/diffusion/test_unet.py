from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_oracles import adm_unet

from fusionproxy_jax.checkpoints.weights import unflatten
from fusionproxy_jax.config.networks import UNetConfig
from fusionproxy_jax.diffusion.patches import depth_to_space, space_to_depth
from fusionproxy_jax.diffusion.unet import UNet
from fusionproxy_jax.diffusion.unet_keys import unet_key_table
from fusionproxy_jax.errors import FusionProxyError

TINY = UNetConfig(
    base_width=32,
    multipliers=(1, 2, 2),
    attention_factors=(2, 4),
    head_width=16,
    num_groups=8,
)
COMPACT = UNetConfig(
    in_channels=1,
    out_channels=1,
    base_width=8,
    multipliers=(1, 2),
    num_blocks=1,
    attention_factors=(),
    num_groups=4,
    patch_px=2,
    prediction="velocity",
)


@pytest.fixture(scope="module")
def reference():
    return adm_unet.redraw(
        adm_unet.AdmUNet(
            image_size=32,
            base=32,
            multipliers=(1, 2, 2),
            attention_sizes=(16, 8),
            head_width=16,
            groups=8,
        )
    )


@pytest.fixture(scope="module")
def params(reference):
    table = unet_key_table(TINY)
    converted = {}
    for key, tensor in reference.state_dict().items():
        path, transform = table[key]
        converted[path] = jnp.asarray(adm_unet.converted(tensor.numpy(), transform))
    return unflatten(converted)


def _compact_inputs():
    return jnp.zeros((1, 8, 8, 1)), jnp.zeros((1,), jnp.int32)


def _drawn(network, shape):
    """Every parameter at random, as no part of a new network shows in its output."""
    inputs = (jnp.zeros(shape), jnp.zeros(shape[:1], jnp.int32))
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32), shapes
    )


# Compiled once for all tests.
apply_tiny = jax.jit(UNet(TINY).apply)


def _tiny_inputs():
    noisy = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype(np.float32)
    return noisy, np.array([3, 871])


def test_the_network_is_the_reference(reference, params):
    noisy, index = _tiny_inputs()
    with torch.no_grad():
        expected = reference(
            torch.from_numpy(noisy.transpose(0, 3, 1, 2).copy()),
            torch.from_numpy(index),
        ).numpy()
    result = apply_tiny({"params": params}, noisy, index)
    assert result.shape == (2, 16, 24, 6)
    np.testing.assert_allclose(
        result, expected.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5
    )


def test_samples_of_a_batch_do_not_see_each_other(params):
    noisy, index = _tiny_inputs()
    both = apply_tiny({"params": params}, noisy, index)
    changed = apply_tiny({"params": params}, noisy, np.array([500, 871]))
    np.testing.assert_allclose(both[1], changed[1], rtol=1e-5, atol=1e-6)
    assert float(jnp.max(jnp.abs(both[0] - changed[0]))) > 1e-2


def test_half_precision_stays_near():
    config = replace(TINY, multipliers=(1,), num_blocks=1, attention_factors=(1,))
    noisy, index = _tiny_inputs()
    params = _drawn(UNet(config), noisy.shape)
    exact, result = (
        jax.jit(UNet(config, dtype=dtype).apply)(params, noisy, index)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert result.dtype == jnp.bfloat16
    error = np.asarray(result, np.float32) - exact
    assert 0 < np.linalg.norm(error) < 0.05 * np.linalg.norm(exact)


def test_parameters_are_float32_whatever_is_computed_in():
    shapes = jax.eval_shape(
        UNet(COMPACT, dtype=jnp.bfloat16).init, jax.random.key(0), *_compact_inputs()
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_a_new_networks_last_convolution_is_zero():
    @jax.jit
    def last_convolution(key):
        return UNet(COMPACT).init(key, *_compact_inputs())["params"]["out_2"]

    for values in jax.tree.leaves(last_convolution(jax.random.key(0))):
        np.testing.assert_array_equal(values, jnp.zeros_like(values))


def test_a_network_on_patches_is_the_plain_network_between_two_foldings():
    on_patches = replace(COMPACT, multipliers=(1,))
    plain = UNet(replace(on_patches, in_channels=4, out_channels=4, patch_px=1))
    noisy = jax.random.normal(jax.random.key(0), (2, 8, 12, 1))
    index = jnp.array([20, 600])
    folded = space_to_depth(noisy, 2)
    params = _drawn(plain, folded.shape)
    expected = depth_to_space(jax.jit(plain.apply)(params, folded, index), 2)
    assert float(jnp.std(expected)) > 0.1
    result = jax.jit(UNet(on_patches).apply)(params, noisy, index)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_without_attention_factors_nothing_attends():
    shapes = _drawn(UNet(COMPACT), (1, 8, 8, 1))["params"]
    assert not any("qkv" in block for block in shapes.values())
    assert {"middle_block_0", "middle_block_1"} <= set(shapes)
    assert "middle_block_2" not in shapes


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 8, 10, 1), "the image is 8x10; this network needs multiples of 4"),
        ((1, 8, 8, 3), "the image has 3 channels; this network takes 1"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(shape, message):
    with pytest.raises(FusionProxyError, match=message):
        _drawn(UNet(COMPACT), shape)
