import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_oracles import mask_difuser as oracle

from fusionproxy_jax.teachers.mask_difuser.blocks import (
    Downsample,
    ResidualBlock,
    Upsample,
    double,
)
from fusionproxy_jax.teachers.mask_difuser.keys import _conv, _residual
from fusionproxy_jax.teachers.mask_difuser.plan import Layer

CONFIG = oracle.TINY


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _nhwc(tensor):
    return tensor.numpy().transpose(0, 2, 3, 1)


def _params(module, rules):
    rules = {key: (path.removeprefix("/"), how) for key, (path, how) in rules}
    state = {f".{key}": value for key, value in module.state_dict().items()}
    assert set(state) == set(rules)
    return {"params": oracle.as_flax(state, rules)}


@pytest.mark.parametrize(
    ("self_attention", "cross_attention"), [(False, False), (True, True)]
)
@pytest.mark.parametrize("in_width", [8, 20])
def test_a_residual_block_equals_the_published_one(
    in_width, self_attention, cross_attention
):
    width = 8
    published = oracle.randomise(
        oracle.ResidualBlock(in_width, width, CONFIG, self_attention, cross_attention)
    )
    layer = Layer("residual", in_width, width, self_attention, cross_attention)
    block = ResidualBlock(width, CONFIG.num_groups, self_attention, cross_attention)
    x = _random(2, 6, 9, in_width)
    time = _random(2, 4 * CONFIG.base_width, seed=1)
    maps = _random(2, 2, 3, 5, CONFIG.semantic_widths[-1], seed=2)
    with torch.no_grad():
        expected = published(
            torch.from_numpy(x.transpose(0, 3, 1, 2)),
            torch.from_numpy(time),
            *(torch.from_numpy(m.transpose(0, 3, 1, 2)) for m in maps),
        )
    tokens = maps.reshape(2, 2, 15, -1)
    params = _params(published, _residual("", "", layer))
    ours = jax.jit(block.apply)(params, x, time, *tokens)
    np.testing.assert_allclose(ours, _nhwc(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_changes_of_size_equal_the_published_ones(up):
    published = oracle.randomise(oracle.Resample(5, up))
    params = _params(published, _conv(".main", "/main"))
    x = _random(2, 6, 8, 5)
    with torch.no_grad():
        expected = published(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    ours = (Upsample() if up else Downsample()).apply(params, x)
    np.testing.assert_allclose(ours, _nhwc(expected), rtol=1e-4, atol=1e-5)


def test_doubling_a_ramp_steps_by_half_and_repeats_its_ends():
    np.testing.assert_allclose(
        double(jnp.arange(3.0), axis=0), [0, 0.25, 0.75, 1.25, 1.75, 2]
    )
