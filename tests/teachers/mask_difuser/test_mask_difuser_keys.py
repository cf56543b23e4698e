import dataclasses
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_oracles import mask_difuser as oracle

from fusionproxy_jax.checkpoints.checkpoint_file import open_checkpoint
from fusionproxy_jax.checkpoints.conversion import convert
from fusionproxy_jax.checkpoints.weights import flatten
from fusionproxy_jax.config import MaskDifuserNetConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.mask_difuser.keys import (
    ALIASES,
    IGNORED,
    mask_difuser_key_table,
)
from fusionproxy_jax.teachers.mask_difuser.network import MaskDifuserNet

AXES = {"conv": (2, 3, 1, 0), "linear": (1, 0)}


def _shapes(config):
    image = jax.ShapeDtypeStruct((1, config.stride, config.stride, 3), jnp.float32)
    return jax.eval_shape(
        MaskDifuserNet(config).init,
        jax.random.key(0),
        *[image] * 3,
        jax.ShapeDtypeStruct((1,), jnp.int32),
    )["params"]


def _check(config):
    """Asserts that names and shapes agree with both networks; returns the state."""
    with torch.device("meta"):
        state = oracle.MaskDifuser(config).state_dict()
    table = mask_difuser_key_table(config)
    ignored = {key for key in state if any(fnmatchcase(key, i) for i in IGNORED)}
    assert set(state) == set(table) | ignored | set(ALIASES)
    wanted = {path: leaf.shape for path, leaf in flatten(_shapes(config)).items()}
    given = {}
    for key, (path, transform) in table.items():
        shape = state[key].shape
        given[path] = tuple(shape[i] for i in AXES.get(transform, range(len(shape))))
    assert given == wanted
    return state, ignored


def test_the_full_checkpoint_has_exactly_the_names_of_the_table():
    state, ignored = _check(MaskDifuserNetConfig())
    assert sum(state[key].numel() for key in ignored) == 593_024
    used = set(state) - ignored - set(ALIASES)
    table = "time_embedding.timembedding.0.weight"
    assert sum(state[key].numel() for key in used - {table}) == 171_605_475
    # Names as they are known, one of every kind.
    in_projection = "transformer_encoder.transformer_encoder.layers.3.self_attn"
    assert state[f"encoder.{in_projection}.in_proj_weight"].shape == (384, 128)
    assert state["middleblocks.0.attn.proj.weight"].shape == (512, 512, 1, 1)
    assert state["upblocks.14.conbine.0.weight"].shape == (128, 384, 3, 3)
    assert state["downblocks.8.main.weight"].shape == (384, 384, 3, 3)


def test_smaller_networks_have_the_names_of_the_same_code():
    _check(oracle.TINY)
    _check(
        dataclasses.replace(
            oracle.TINY,
            self_attention_levels=(),
            cross_attention_levels=(1,),
            num_blocks=2,
        )
    )


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_saved_checkpoint_is_converted_tensor_by_tensor(tmp_path, prefix):
    config, path = oracle.TINY, tmp_path / "published.pt"
    table = mask_difuser_key_table(config)
    state = oracle.randomise(oracle.MaskDifuser(config)).state_dict()
    rules = {"ignored": IGNORED, "aliases": ALIASES}

    def save_and_convert():
        torch.save({f"{prefix}{key}": value for key, value in state.items()}, path)
        with open_checkpoint(path) as source:
            return convert(source, table, _shapes(config), **rules)

    converted = flatten(save_and_convert())
    expected = flatten(oracle.as_flax(state, table))
    assert set(converted) == set(expected)
    for name, value in converted.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    # The noisy branch's second name must hold the same values.
    state["conbine.0.bias"] = state["conbine.0.bias"] + 1
    with pytest.raises(FusionProxyError, match="conbine.0.bias"):
        save_and_convert()
