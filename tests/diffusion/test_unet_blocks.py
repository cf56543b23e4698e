import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_oracles import adm_unet

from fusionproxy_jax.diffusion.unet_blocks import (
    MAX_QUERIES,
    QUERIES_PER_CHUNK,
    AttentionBlock,
    GroupNorm,
    ResidualBlock,
    attend,
    split_heads,
)

GROUPS = 4


def _draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _to_nchw(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def _to_nhwc(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


def _conv(layer):
    return {
        "kernel": adm_unet.converted(layer.weight.detach().numpy(), "conv"),
        "bias": layer.bias.detach().numpy(),
    }


def _dense(layer):
    weight = layer.weight.detach().numpy()
    return {
        "kernel": weight.reshape(weight.shape[:2]).T,
        "bias": layer.bias.detach().numpy(),
    }


def _norm(layer):
    return {
        "scale": layer.weight.detach().numpy(),
        "bias": layer.bias.detach().numpy(),
    }


@pytest.mark.parametrize("resample", ["none", "up", "down"])
@pytest.mark.parametrize("width", [8, 12], ids=["same width", "wider"])
def test_a_residual_block_is_the_references(resample, width):
    reference = adm_unet.redraw(adm_unet.Residual(8, width, 10, GROUPS, resample))
    params = {
        "in_layers_0": _norm(reference.in_layers[0]),
        "in_layers_2": _conv(reference.in_layers[2]),
        "emb_layers_1": _dense(reference.emb_layers[1]),
        "out_layers_0": _norm(reference.out_layers[0]),
        "out_layers_3": _conv(reference.out_layers[3]),
    }
    if width != 8:
        params["skip_connection"] = _conv(reference.skip_connection)
    x, embedding = _draw(2, 4, 6, 8), _draw(2, 10, seed=1)
    expected = reference(_to_nchw(x), torch.from_numpy(embedding))
    result = jax.jit(ResidualBlock(width, GROUPS, resample).apply)(
        {"params": params}, jnp.asarray(x), jnp.asarray(embedding)
    )
    np.testing.assert_allclose(result, _to_nhwc(expected), rtol=1e-4, atol=1e-5)


def test_an_attention_block_is_the_references():
    reference = adm_unet.redraw(adm_unet.Attention(12, 4, GROUPS))
    params = {
        "norm": _norm(reference.norm),
        "qkv": _dense(reference.qkv),
        "proj_out": _dense(reference.proj_out),
    }
    # Far from unit variance, so that the scale of the scores counts.
    x = 3 * _draw(2, 3, 5, 12)
    block = AttentionBlock(4, GROUPS)
    result = jax.jit(block.apply)({"params": params}, jnp.asarray(x))
    expected = _to_nhwc(reference(_to_nchw(x)))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("mean", "deviation"), [(50.0, 1.0), (0.0, 1e-3)], ids=["far from 0", "flat"]
)
def test_group_norm_is_the_references(mean, deviation):
    reference = adm_unet.redraw(torch.nn.GroupNorm(GROUPS, 8, eps=1e-5))
    params = _norm(reference)
    # The flat features' variance is a tenth of the epsilon.
    x = np.float32(mean) + np.float32(deviation) * _draw(2, 6, 4, 8)
    expected = _to_nhwc(reference.double()(_to_nchw(x).double()))
    result = GroupNorm(GROUPS).apply({"params": params}, jnp.asarray(x))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=2e-5)


def test_group_norm_of_bfloat16_has_float32_statistics():
    x = jnp.asarray(50.0 + _draw(1, 16, 16, 8), jnp.bfloat16)
    norm = GroupNorm(GROUPS)
    params = norm.init(jax.random.key(0), x)
    result = norm.apply(params, x)
    assert result.dtype == jnp.bfloat16
    expected = norm.apply(params, x.astype(jnp.float32))
    np.testing.assert_allclose(result.astype(jnp.float32), expected, atol=0.02)


def test_a_new_block_is_its_skip():
    x, embedding = jnp.asarray(_draw(1, 4, 4, 8)), jnp.asarray(_draw(1, 10))
    for block, last, inputs in (
        (ResidualBlock(8, GROUPS), "out_layers_3", (x, embedding)),
        (AttentionBlock(4, GROUPS), "proj_out", (x,)),
    ):
        result, variables = jax.jit(block.init_with_output)(jax.random.key(0), *inputs)
        np.testing.assert_array_equal(result, x)
        assert not np.any(variables["params"][last]["kernel"])


def test_a_head_owns_neighbouring_channels_of_qkv():
    qkv = jnp.arange(12.0)[None, None]
    query, key, value = split_heads(qkv, 2)
    np.testing.assert_array_equal(query[0, 0], [[0, 1], [6, 7]])
    np.testing.assert_array_equal(key[0, 0], [[2, 3], [8, 9]])
    np.testing.assert_array_equal(value[0, 0], [[4, 5], [10, 11]])


def test_the_newer_order_of_qkv_attends_differently():
    qkv = jnp.asarray(_draw(1, 5, 24))
    ours = attend(*split_heads(qkv, 4))
    newer = attend(*jnp.moveaxis(qkv.reshape(1, 5, 3, 2, 4), 2, 0))
    assert float(jnp.max(jnp.abs(ours - newer))) > 0.1
    # With one head there is only one order.
    alone = attend(*jnp.moveaxis(qkv.reshape(1, 5, 3, 1, 8), 2, 0))
    np.testing.assert_allclose(attend(*split_heads(qkv, 8)), alone, rtol=1e-6)


@pytest.mark.parametrize("chunk", [4, 11])
def test_attention_in_chunks_is_plain_attention(chunk):
    query, key, value = (jnp.asarray(_draw(2, 11, 3, 4, seed=s)) for s in range(3))
    scores = np.einsum("btnd,bsnd->bnts", query, key, dtype=np.float64) / 2.0
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bnts,bsnd->btnd", weights, value)
    plain = attend(query, key, value)
    chunked = attend(query, key, value, max_queries=10, queries_per_chunk=chunk)
    np.testing.assert_allclose(plain, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(chunked, expected, rtol=1e-4, atol=1e-6)


def _largest_array(jaxpr):
    sizes = [v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars]
    for eqn in jaxpr.eqns:
        sizes += [
            _largest_array(getattr(inner, "jaxpr", inner))
            for inner in jax.tree.leaves(
                list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
            )
            if hasattr(inner, "eqns")
        ]
    return max(sizes, default=0)


def test_many_tokens_never_hold_all_scores_at_once():
    # A 480x640 image at 1/8.
    tokens, heads, width = 60 * 80, 8, 64
    assert tokens > MAX_QUERIES
    array = jax.ShapeDtypeStruct((1, tokens, heads, width), jnp.float32)
    jaxpr = jax.make_jaxpr(attend)(array, array, array).jaxpr
    assert _largest_array(jaxpr) == heads * QUERIES_PER_CHUNK * tokens
