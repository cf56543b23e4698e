import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from fusionproxy_jax.models.conv_norm import ConvNorm
from fusionproxy_jax.models.layer_style import LayerStyle


def _random(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("normalization", ["affine", "layer"])
@pytest.mark.parametrize(
    ("features", "size", "stride"), [(4, 1, 1), (4, 3, 2), (None, 5, 2)]
)
def test_a_layer_is_convolution_then_norm_then_activation(
    normalization, features, size, stride
):
    channels = 6
    width, groups = (channels, channels) if features is None else (features, 1)
    kernel = _random(size, size, channels // groups, width)
    scale, bias = _random(width, seed=1), _random(width, seed=2)
    x = _random(2, 8, 10, channels, seed=3)
    layer = ConvNorm(
        LayerStyle(normalization=normalization, activation="relu", grouped=True),
        features,
        kernel_size=size,
        stride=stride,
    )
    params = {"kernel": kernel, "norm": {"scale": scale, "bias": bias}}
    ours = layer.apply({"params": jax.tree.map(jnp.asarray, params)}, jnp.asarray(x))

    y = functional.conv2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()),
        stride=stride,
        padding=size // 2,
        groups=groups,
    ).permute(0, 2, 3, 1)
    if normalization == "layer":
        y = functional.layer_norm(y, (width,), eps=1e-6)
    expected = (y * torch.from_numpy(scale) + torch.from_numpy(bias)).relu()
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_both_norms_have_the_same_parameters():
    x = jax.ShapeDtypeStruct((1, 4, 4, 3), jnp.float32)
    shapes = [
        jax.eval_shape(
            ConvNorm(LayerStyle(normalization=name), 5).init, jax.random.key(0), x
        )
        for name in ("affine", "layer")
    ]
    assert shapes[0] == shapes[1]


def test_a_new_layer_keeps_the_size_of_its_features():
    x = jnp.asarray(_random(1, 16, 16, 64))
    style = LayerStyle(normalization="affine", activation="relu")
    for activated in (True, False):
        layer = ConvNorm(style, 64, kernel_size=3, activated=activated)
        y, _ = jax.jit(layer.init_with_output)(jax.random.key(0), x)
        # A rectified half of twice the second moment.
        assert 0.8 < jnp.mean(y**2) / jnp.mean(x**2) < 1.2
