"""Batch-normalised convolutions in PyTorch, and what they are as Flax parameters."""

import jax.numpy as jnp
import torch
from torch import nn

from fusionproxy_jax.models.normalization import folded_batch_norm


def conv_norm(in_width, width, size=1, stride=1, groups=1, bias=False):
    """Convolution with borders of zeros, then batch normalisation."""
    convolution = nn.Conv2d(
        in_width, width, size, stride, padding=size // 2, groups=groups, bias=bias
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


def redraw(network, seed=0):
    """Draws every parameter and statistic at random, of unit gain, for inference."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor):
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.ndim > 1:
                tensor.copy_(normal(tensor) / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(0.3 * normal(tensor))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.add_(1.0)
    return network.eval()


def array(tensor):
    return jnp.asarray(tensor.detach().numpy())


def kernel(convolution):
    """From [out, in / groups, row, column] to [row, column, in / groups, out]."""
    return array(convolution.weight).transpose(2, 3, 1, 0)


def folded(layer):
    """Returns a `ConvNorm`'s parameters; a bias of the convolution shifts the mean."""
    convolution, norm = layer
    mean = norm.running_mean
    if convolution.bias is not None:
        mean = mean - convolution.bias
    statistics = map(array, (norm.weight, norm.bias, mean, norm.running_var))
    return {
        "kernel": kernel(convolution),
        "norm": folded_batch_norm(*statistics, epsilon=norm.eps),
    }
