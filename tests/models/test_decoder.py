import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from fusionproxy_jax.models.decoder import Decoder


def _random(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape).astype(np.float32)


def _conv(x, layer, groups=1):
    kernel, bias = (
        torch.from_numpy(np.array(layer[name])) for name in ("kernel", "bias")
    )
    size = kernel.shape[0]
    return functional.conv2d(
        x, kernel.permute(3, 2, 0, 1), bias, padding=size // 2, groups=groups
    )


def _dense(x, layer):
    return _conv(x, {"kernel": layer["kernel"][None, None], "bias": layer["bias"]})


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"join": "add", "activation": "relu"},
        {"separable": True, "cell": 4, "grouped": True, "output": "blend"},
    ],
    ids=["default", "added", "separable"],
)
def test_the_decoder_equals_the_same_decoder_in_pytorch(variant):
    fine, coarse = _random(2, 4, 6, 3), _random(2, 2, 3, 5, seed=1)
    decoder, cell = Decoder(**variant), variant.get("cell", 2)
    features = [jnp.asarray(fine), jnp.asarray(coarse)]
    shapes = jax.eval_shape(decoder.init, jax.random.key(0), features)["params"]
    generator = np.random.default_rng(2)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(generator.standard_normal(leaf.shape), jnp.float32),
        shapes,
    )
    ours = jax.jit(decoder.apply)({"params": params}, features)
    output = variant.get("output", "rgb")
    num_maps = {"rgb": 3, "blend": 2}[output]
    assert ours.shape == (2, 4 * cell, 6 * cell, num_maps)

    skip, x = (torch.from_numpy(f).permute(0, 3, 1, 2) for f in (fine, coarse))
    x = functional.interpolate(
        _dense(x, params["reduce0"]), scale_factor=2, mode="bilinear"
    )
    x = x + skip if variant.get("join") == "add" else torch.cat([x, skip], dim=1)
    merge = params["merge0"]
    if variant.get("separable"):
        x = _dense(_conv(x, merge["depthwise"], groups=6), merge["pointwise"])
    else:
        x = _conv(x, merge)
    x = x.relu() if variant.get("activation") == "relu" else functional.gelu(x)
    x = _conv(x, params[f"to_{output}"])
    # From (row, column, map) to PyTorch's (map, row, column).
    x = x.unflatten(1, (cell**2, num_maps)).transpose(1, 2).flatten(1, 2)
    expected = functional.pixel_shuffle(x, cell).permute(0, 2, 3, 1)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
