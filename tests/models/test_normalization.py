import jax.numpy as jnp
import numpy as np
import torch

from fusionproxy_jax.models.normalization import folded_batch_norm


def test_a_folded_batch_norm_is_the_trained_one_at_inference():
    generator = torch.Generator().manual_seed(0)
    norm = torch.nn.BatchNorm2d(5, eps=1e-3).eval()
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.copy_(torch.randn(5, generator=generator))
        norm.running_var.copy_(0.1 + torch.rand(5, generator=generator))
        x = torch.randn(2, 5, 3, 4, generator=generator)
        expected = norm(x).numpy()
    tensors = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    affine = folded_batch_norm(
        *(jnp.asarray(tensor.detach().numpy()) for tensor in tensors), epsilon=norm.eps
    )
    ours = x.numpy() * affine["scale"].reshape(1, -1, 1, 1)
    np.testing.assert_allclose(
        ours + affine["bias"].reshape(1, -1, 1, 1), expected, rtol=1e-4, atol=1e-5
    )
