import jax
import jax.numpy as jnp
import numpy as np
import torch

from fusionproxy_jax.models.convnext_v2 import ConvNextV2Block, GlobalResponseNorm


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


class _PublishedBlock(torch.nn.Module):
    """The block restated from the paper, NCHW outside."""

    def __init__(self, channels):
        super().__init__()
        self.dwconv = torch.nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = torch.nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = torch.nn.Linear(channels, 4 * channels)
        self.scale = torch.nn.Parameter(torch.zeros(4 * channels))
        self.bias = torch.nn.Parameter(torch.zeros(4 * channels))
        self.pwconv2 = torch.nn.Linear(4 * channels, channels)

    def forward(self, image):
        x = self.dwconv(image).permute(0, 2, 3, 1)
        x = torch.nn.functional.gelu(self.pwconv1(self.norm(x)))
        response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        share = response / (response.mean(dim=-1, keepdim=True) + 1e-6)
        x = self.scale * (x * share) + self.bias + x
        return image + self.pwconv2(x).permute(0, 3, 1, 2)


def test_a_block_equals_the_published_block_in_pytorch():
    channels = 6
    generator = torch.Generator().manual_seed(0)
    published = _PublishedBlock(channels)
    with torch.no_grad():
        for parameter in published.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))

    def array(tensor):
        return tensor.detach().numpy()

    def dense(layer):
        return {"kernel": array(layer.weight).T, "bias": array(layer.bias)}

    params = {
        "dwconv": {
            "kernel": array(published.dwconv.weight).transpose(2, 3, 1, 0),
            "bias": array(published.dwconv.bias),
        },
        "norm": {
            "scale": array(published.norm.weight),
            "bias": array(published.norm.bias),
        },
        "pwconv1": dense(published.pwconv1),
        "grn": {"scale": array(published.scale), "bias": array(published.bias)},
        "pwconv2": dense(published.pwconv2),
    }
    params = jax.tree.map(jnp.asarray, params)
    x = _random(2, 9, 11, channels)
    with torch.no_grad():
        nchw = published(torch.from_numpy(np.array(x.transpose(0, 3, 1, 2))))
    expected = nchw.numpy().transpose(0, 2, 3, 1)
    for grouped in (False, True):
        ours = ConvNextV2Block(grouped=grouped).apply({"params": params}, x)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
