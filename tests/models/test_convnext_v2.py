import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import linen as nn

from fusionproxy_jax.models.convnext_v2 import (
    ConvNextV2Block,
    ConvNextV2Encoder,
    Downsample,
    GlobalResponseNorm,
)
from fusionproxy_jax.models.layer_style import LayerStyle


def _random(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return jnp.asarray(generator.standard_normal(shape), jnp.float32)


def _published_response_norm(x, scale, bias):
    """Woo et al. 2023, Algorithm 1: root of the sum of squares."""
    x, scale, bias = (np.asarray(array, np.float32) for array in (x, scale, bias))
    response = np.sqrt(np.sum(np.square(x), axis=(1, 2), keepdims=True))
    share = response / (response.mean(axis=-1, keepdims=True) + 1e-6)
    return scale * (x * share) + bias + x


def test_response_norm_equals_the_published_form():
    x, scale, bias = _random(2, 5, 7, 6), _random(6, seed=1), _random(6, seed=2)
    ours = GlobalResponseNorm().apply({"params": {"scale": scale, "bias": bias}}, x)
    expected = _published_response_norm(x, scale, bias)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_response_norm_of_a_zero_map_has_a_finite_gradient():
    params = {"scale": jnp.ones(4), "bias": jnp.zeros(4)}

    def total(params, x):
        return jnp.sum(GlobalResponseNorm().apply({"params": params}, x) ** 2)

    grads = jax.grad(total, argnums=(0, 1))(params, jnp.zeros((1, 3, 5, 4)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_response_norm_does_not_overflow_half_precision_at_full_size():
    x = 4.0 * _random(1, 480, 640, 3) + 1.0
    params = {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)}
    # The published sum of squares is past the largest float16, 65504.
    assert np.sum(np.square(x[..., 0])) > 65504
    half = GlobalResponseNorm().apply({"params": params}, x.astype(jnp.float16))
    assert half.dtype == jnp.float16
    expected = _published_response_norm(x, params["scale"], params["bias"])
    np.testing.assert_allclose(half.astype(jnp.float32), expected, rtol=5e-3, atol=1e-2)


class _Affine(torch.nn.LayerNorm):
    """The parameters of a LayerNorm without its normalisation."""

    def forward(self, x):
        return self.weight * x + self.bias


class _Block(torch.nn.Module):
    """The block restated from the paper, with its variants, NCHW outside."""

    def __init__(self, channels, variant):
        super().__init__()
        size, self.grn = variant.get("kernel_size", 7), variant.get("response_norm", 1)
        wide = variant.get("expansion", 4) * channels
        affine = variant.get("normalization") == "affine"
        self.activation = {
            "gelu": torch.nn.GELU(),
            "relu": torch.nn.ReLU(),
            "hardswish": torch.nn.Hardswish(),
        }[variant.get("activation", "gelu")]
        self.dwconv = torch.nn.Conv2d(
            channels, channels, size, padding=size // 2, groups=channels
        )
        self.norm = (_Affine if affine else torch.nn.LayerNorm)(channels, eps=1e-6)
        self.pwconv1 = torch.nn.Linear(channels, wide)
        if self.grn:
            self.scale = torch.nn.Parameter(torch.zeros(wide))
            self.bias = torch.nn.Parameter(torch.zeros(wide))
        self.pwconv2 = torch.nn.Linear(wide, channels)

    def forward(self, image):
        x = self.dwconv(image).permute(0, 2, 3, 1)
        x = self.activation(self.pwconv1(self.norm(x)))
        if self.grn:
            response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
            share = response / (response.mean(dim=-1, keepdim=True) + 1e-6)
            x = self.scale * (x * share) + self.bias + x
        return image + self.pwconv2(x).permute(0, 3, 1, 2)


def _redraw(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network


def _array(tensor):
    return jnp.asarray(tensor.detach().numpy())


def _conv(layer):
    return {
        "kernel": _array(layer.weight).transpose(2, 3, 1, 0),
        "bias": _array(layer.bias),
    }


def _dense(layer):
    return {"kernel": _array(layer.weight).T, "bias": _array(layer.bias)}


def _norm(layer):
    return {"scale": _array(layer.weight), "bias": _array(layer.bias)}


def _block_params(block, norm, response=None):
    params = {
        "dwconv": _conv(block.dwconv),
        "norm": _norm(norm),
        "pwconv1": _dense(block.pwconv1),
        "pwconv2": _dense(block.pwconv2),
    }
    if response is not None:
        scale, bias = response
        params["grn"] = {
            "scale": _array(scale).reshape(-1),
            "bias": _array(bias).reshape(-1),
        }
    return params


def _nchw(x):
    return torch.from_numpy(np.array(x.transpose(0, 3, 1, 2)))


def _nhwc(tensor):
    return tensor.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"normalization": "affine", "activation": "relu", "response_norm": False},
        {"activation": "hardswish", "kernel_size": 3, "expansion": 2},
    ],
    ids=["published", "cheapest", "smaller"],
)
def test_a_block_equals_the_same_block_in_pytorch(variant):
    channels = 6
    reference = _redraw(_Block(channels, variant))
    response = (reference.scale, reference.bias) if reference.grn else None
    params = _block_params(reference, reference.norm, response)
    x = _random(2, 9, 11, channels)
    with torch.no_grad():
        expected = _nhwc(reference(_nchw(x)))
    named = dict(variant)
    style = {
        name: named.pop(name)
        for name in ("normalization", "activation")
        if name in named
    }
    for grouped in (False, True):
        block = ConvNextV2Block(LayerStyle(**style, grouped=grouped), **named)
        ours = jax.jit(block.apply)({"params": params}, x)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_the_encoder_equals_the_published_network():
    """Its first stage, which ours has not, is without blocks."""
    config = transformers.ConvNextV2Config(
        num_stages=3, hidden_sizes=[4, 6, 8], depths=[0, 2, 1], drop_path_rate=0.0
    )
    published = _redraw(transformers.ConvNextV2Model(config)).eval()
    params = {"stem": _conv(published.embeddings.patch_embeddings)}
    for index, stage in enumerate(published.encoder.stages[1:]):
        norm, convolution = stage.downsampling_layer
        params[f"norm{index}"] = _norm(norm)
        params[f"downsample{index}"] = _conv(convolution)
        for number, block in enumerate(stage.layers):
            params[f"stage{index}_block{number}"] = _block_params(
                block, block.layernorm, (block.grn.weight, block.grn.bias)
            )
    image = _random(1, 32, 48, 3)
    with torch.no_grad():
        expected = [published.embeddings.patch_embeddings(_nchw(image))]
        for stage in published.encoder.stages[1:]:
            expected.append(stage(expected[-1]))
    encoder = ConvNextV2Encoder(
        stem_width=4,
        widths=(6, 8),
        depths=(2, 1),
        style=LayerStyle(grouped=True),
        stem_stride=4,
    )
    ours = jax.jit(encoder.apply)({"params": params}, image)
    for features, reference in zip(ours, expected, strict=True):
        np.testing.assert_allclose(features, _nhwc(reference), rtol=1e-4, atol=1e-5)


def test_an_affine_layer_before_halving_goes_into_the_convolution():
    x, kernel, bias = _random(1, 4, 6, 3), _random(2, 2, 3, 5, seed=1), _random(5)
    scale, shift = _random(3, seed=2), _random(3, seed=3)
    params = {"params": {"kernel": kernel, "bias": bias}}
    ours = Downsample(5).apply(params, x, scale, shift)
    plain = nn.Conv(5, (2, 2), strides=(2, 2), padding="VALID")
    affine = x * scale.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1)
    np.testing.assert_allclose(ours, plain.apply(params, affine), rtol=1e-4, atol=1e-5)
