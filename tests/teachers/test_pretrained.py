import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fusionproxy_jax.config import (
    COMPACT_PRIOR,
    COMPACT_RESTORER,
    MaskDifuserNetConfig,
    UNetConfig,
)
from fusionproxy_jax.diffusion.learned_prior import LearnedPrior
from fusionproxy_jax.diffusion.unet_keys import unet_key_table
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.mask_difuser.keys import mask_difuser_key_table
from fusionproxy_jax.teachers.mask_difuser.sampling import Restorer
from fusionproxy_jax.teachers.pretrained import (
    load_prior,
    load_restorer,
    prior_shapes,
    restorer_shapes,
    save_network,
)

TINY_PRIOR = dataclasses.replace(COMPACT_PRIOR, base_width=8, multipliers=(1, 2))
TINY_RESTORER = dataclasses.replace(
    COMPACT_RESTORER,
    base_width=8,
    content_widths=(8, 8),
    semantic_widths=(8, 8),
    multipliers=(1, 2),
    cross_attention_levels=(1,),
    semantic_heads=2,
    semantic_hidden=8,
)
# What a published checkpoint would hold, if its network were tiny.
PUBLISHED_PRIOR = UNetConfig(
    base_width=8, multipliers=(1, 2), num_blocks=1, num_groups=4, head_width=4,
    attention_factors=(2,),
)  # fmt: skip
PUBLISHED_RESTORER = MaskDifuserNetConfig(
    base_width=8,
    multipliers=(1, 2),
    num_blocks=1,
    self_attention_levels=(1,),
    cross_attention_levels=(0, 1),
    content_widths=(8, 8, 8),
    semantic_widths=(8, 8, 8, 8, 8),
    semantic_layers=1,
    semantic_heads=2,
    semantic_hidden=8,
    num_groups=4,
)


def _drawn(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.normal(scale=0.1, size=leaf.shape).astype(np.float32), shapes
    )


def _prior():
    return LearnedPrior(_drawn(prior_shapes(TINY_PRIOR)), TINY_PRIOR)


def _restorer():
    return Restorer(_drawn(restorer_shapes(TINY_RESTORER)), TINY_RESTORER)


def _same(params, others, **tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **tolerance), params, others
    )


@pytest.mark.parametrize(
    ("network", "load"), [(_prior, load_prior), (_restorer, load_restorer)]
)
def test_a_network_of_ours_comes_back_from_its_file(tmp_path, network, load):
    network = network()
    save_network(tmp_path / "net.safetensors", network, training={"step": 3})
    found, fingerprint = load(str(tmp_path / "net.safetensors"))
    assert found.config == network.config
    # Stored as float16.
    _same(found.params, network.params, rtol=1e-3, atol=1e-6)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found.params))
    assert len(fingerprint) == 16


def test_a_fingerprint_changes_with_one_value(tmp_path):
    prior = _prior()
    marks = []
    for change in (0.0, 0.5):
        params = jax.tree.map(np.copy, prior.params)
        jax.tree.leaves(params)[0].flat[0] += change
        path = tmp_path / f"{change}.safetensors"
        save_network(path, dataclasses.replace(prior, params=params))
        marks.append(load_prior(str(path))[1])
    assert marks[0] != marks[1]


def test_the_other_teacher_s_network_is_refused(tmp_path):
    path = tmp_path / "prior.safetensors"
    save_network(path, _prior())
    with pytest.raises(FusionProxyError, match="teacher 'ddfm', not of 'mask_difuser'"):
        load_restorer(str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FusionProxyError, match="no weights file .*nothing.pt"):
        load_prior(str(tmp_path / "nothing.pt"))


def _torch_state(table, shapes, seed=1):
    """A state dict with the published names whose conversion gives random values."""
    flat = {
        "/".join(key.key for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(_drawn(shapes, seed))
    }
    undo = {
        "conv": lambda x: x.transpose(3, 2, 0, 1),
        "linear": lambda x: x.T,
        "conv1d": lambda x: x.T[..., None],
        "as_is": lambda x: x,
    }
    state = {
        key: torch.from_numpy(np.ascontiguousarray(undo[kind](flat[target])))
        for key, (target, kind) in table.items()
    }
    return state, flat


@pytest.mark.parametrize("zipped", [True, False])
def test_a_published_prior_is_converted_and_denoises(tmp_path, zipped):
    state, flat = _torch_state(
        unet_key_table(PUBLISHED_PRIOR), prior_shapes(PUBLISHED_PRIOR)
    )
    path = tmp_path / "256x256_diffusion_uncond.pt"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    prior, _ = load_prior(str(path), published=PUBLISHED_PRIOR)
    assert prior.channels == 3
    for place, leaf in jax.tree_util.tree_leaves_with_path(prior.params):
        np.testing.assert_array_equal(leaf, flat["/".join(k.key for k in place)])
    denoise = prior.denoiser(16, 16)
    clean = denoise(jnp.ones((2, 16, 16, 3)), jnp.int32(10), jnp.float32(0.9))
    assert clean.shape == (2, 16, 16, 3)
    # Converted once: the second time the file beside it is read.
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_a_published_restorer_is_converted(tmp_path):
    state, flat = _torch_state(
        mask_difuser_key_table(PUBLISHED_RESTORER), restorer_shapes(PUBLISHED_RESTORER)
    )
    torch.save(
        {f"module.{key}": value for key, value in state.items()}, tmp_path / "m.pt"
    )
    restorer, _ = load_restorer(str(tmp_path / "m.pt"), published=PUBLISHED_RESTORER)
    for place, leaf in jax.tree_util.tree_leaves_with_path(restorer.params):
        np.testing.assert_array_equal(leaf, flat["/".join(k.key for k in place)])


def test_a_checkpoint_of_another_network_is_refused_whole(tmp_path):
    state, _ = _torch_state(
        unet_key_table(PUBLISHED_PRIOR), prior_shapes(PUBLISHED_PRIOR)
    )
    del state["out.2.bias"]
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(FusionProxyError, match=r"out\.2\.bias|out/.*bias"):
        load_prior(str(tmp_path / "cut.pt"), published=PUBLISHED_PRIOR)
    assert not list(tmp_path.glob("*.safetensors"))
