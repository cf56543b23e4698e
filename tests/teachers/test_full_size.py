"""Checkpoints of the published sizes: random values, right names and shapes.

Slow and large (2.2 GB and 0.7 GB of files, up to 9 GB of memory, minutes); run with
`pytest -m slow tests/teachers/test_full_size.py`.
"""

import resource

import jax
import jax.numpy as jnp
import pytest
import torch
from torch_oracles import adm_unet, mask_difuser

from fusionproxy_jax.config import MaskDifuserNetConfig
from fusionproxy_jax.teachers.mask_difuser.keys import ALIASES
from fusionproxy_jax.teachers.pretrained import load_prior, load_restorer

GIGABYTE = 1024**3


def _save_random(model, path, aliases=None) -> None:
    """Writes the state dict of a model on the meta device, with small random values."""
    generator = torch.Generator().manual_seed(0)
    state = {
        name: 0.02 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in model.state_dict().items()
    }
    for alias, name in (aliases or {}).items():
        state[alias] = state[name]
    torch.save(state, path)


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.slow
def test_the_published_prior_converts_and_takes_a_step(tmp_path):
    with torch.device("meta"):
        model = adm_unet.AdmUNet()
    _save_random(model, tmp_path / "adm.pt")
    prior, _ = load_prior(str(tmp_path / "adm.pt"))
    assert sum(x.size for x in jax.tree.leaves(prior.params)) == 552_814_086

    def step(prior, noisy):
        return prior.denoiser(256, 256)(noisy, jnp.int32(500), jnp.float32(0.5))

    clean = jax.jit(step)(prior, jnp.zeros((1, 256, 256, 3)))
    assert clean.shape == (1, 256, 256, 3) and bool(jnp.all(jnp.isfinite(clean)))
    assert _peak_memory() < 24 * GIGABYTE


@pytest.mark.slow
def test_the_published_restorer_converts_and_takes_a_step(tmp_path):
    with torch.device("meta"):
        model = mask_difuser.MaskDifuser(MaskDifuserNetConfig())
    _save_random(model, tmp_path / "mask_difuser.pt", ALIASES)
    restorer, _ = load_restorer(str(tmp_path / "mask_difuser.pt"))
    table = restorer.params["time_embedding"]["table"]
    count = sum(x.size for x in jax.tree.leaves(restorer.params)) - table.size
    assert count == 171_605_475
    view = jnp.zeros((1, 256, 256, 3))

    def step(restorer, view):
        encoded = restorer.encode(view, view)
        return restorer.denoise(view, jnp.array([500]), encoded)

    noise = jax.jit(step)(restorer, view)
    assert noise.shape == view.shape and bool(jnp.all(jnp.isfinite(noise)))
    assert _peak_memory() < 24 * GIGABYTE
