"""The unconditional UNet of guided diffusion in PyTorch, with its checkpoint's names.

Written from a description, to compare with: images NCHW, attention given by feature
map sizes, not by factors. Nothing here is fast.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    def __init__(self, in_width, width, embedding_width, groups, resample="none"):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, in_width, eps=1e-5),
            nn.SiLU(),
            nn.Conv2d(in_width, width, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding_width, 2 * width)
        )
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, width, eps=1e-5),
            nn.SiLU(),
            nn.Dropout(0.0),
            nn.Conv2d(width, width, 3, padding=1),
        )
        if in_width == width:
            self.skip_connection = nn.Identity()
        else:
            self.skip_connection = nn.Conv2d(in_width, width, 1)
        self.resample = resample

    def _resample(self, x):
        if self.resample == "up":
            return functional.interpolate(x, scale_factor=2, mode="nearest")
        if self.resample == "down":
            return functional.avg_pool2d(x, 2)
        return x

    def forward(self, x, embedding):
        norm, activation, conv = self.in_layers
        h = conv(self._resample(activation(norm(x))))
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, dim=1)
        norm, *rest = self.out_layers
        h = norm(h) * (1 + scale) + shift
        for layer in rest:
            h = layer(h)
        return self.skip_connection(self._resample(x)) + h


class Attention(nn.Module):
    def __init__(self, width, head_width, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-5)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)
        self.head_width = head_width

    def forward(self, x):
        batch, width, height, breadth = x.shape
        flat = x.reshape(batch, width, height * breadth)
        qkv = self.qkv(self.norm(flat))
        outputs = []
        # A head owns 3 d neighbouring channels: its queries, its keys, its values.
        for head in qkv.split(3 * self.head_width, dim=1):
            query, key, value = head.split(self.head_width, dim=1)
            scores = torch.einsum("bct,bcs->bts", query, key)
            weights = torch.softmax(scores / math.sqrt(self.head_width), dim=-1)
            outputs.append(torch.einsum("bts,bcs->bct", weights, value))
        flat = flat + self.proj_out(torch.cat(outputs, dim=1))
        return flat.reshape(x.shape)


class Block(nn.Sequential):
    """Layers one after the other; residual ones also take the embedding."""

    def forward(self, x, embedding):
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, Residual) else layer(x)
        return x


class AdmUNet(nn.Module):
    """Defaults are the released 256x256 model."""

    def __init__(
        self,
        *,
        image_size=256,
        in_channels=3,
        out_channels=6,
        base=256,
        multipliers=(1, 1, 2, 2, 4, 4),
        num_blocks=2,
        attention_sizes=(32, 16, 8),
        head_width=64,
        groups=32,
    ):
        super().__init__()
        self.base = base
        time_width = 4 * base
        self.time_embed = nn.Sequential(
            nn.Linear(base, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )

        def residual(in_width, width, resample="none"):
            return Residual(in_width, width, time_width, groups, resample)

        def attention_at(size, width):
            if size in attention_sizes:
                return [Attention(width, head_width, groups)]
            return []

        width, size = base * multipliers[0], image_size
        self.input_blocks = nn.ModuleList(
            [Block(nn.Conv2d(in_channels, width, 3, padding=1))]
        )
        skips = [width]
        for number, multiplier in enumerate(multipliers):
            if number > 0:
                size //= 2
                self.input_blocks.append(Block(residual(width, width, "down")))
                skips.append(width)
            for _ in range(num_blocks):
                layers = [residual(width, base * multiplier)]
                width = base * multiplier
                self.input_blocks.append(Block(*layers, *attention_at(size, width)))
                skips.append(width)

        self.middle_block = Block(
            residual(width, width),
            Attention(width, head_width, groups),
            residual(width, width),
        )

        self.output_blocks = nn.ModuleList()
        for number in range(len(multipliers) - 1, -1, -1):
            for repeat in range(num_blocks + 1):
                layers = [residual(width + skips.pop(), base * multipliers[number])]
                width = base * multipliers[number]
                layers += attention_at(size, width)
                if number > 0 and repeat == num_blocks:
                    layers.append(residual(width, width, "up"))
                self.output_blocks.append(Block(*layers))
            size *= 2

        self.out = nn.Sequential(
            nn.GroupNorm(groups, width, eps=1e-5),
            nn.SiLU(),
            nn.Conv2d(width, out_channels, 3, padding=1),
        )

    def embedding(self, index):
        waves = [
            wave(index.double() * 10000.0 ** (-j / (self.base // 2)))
            for wave in (torch.cos, torch.sin)
            for j in range(self.base // 2)
        ]
        features = torch.stack(waves, dim=1).to(self.time_embed[0].weight.dtype)
        return self.time_embed(features)

    def forward(self, x, index):
        embedding = self.embedding(index)
        skips = []
        for block in self.input_blocks:
            x = block(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), embedding)
        return self.out(x)


def redraw(module, seed=0):
    """Draws every tensor anew, norms and biases too, so that none can be swapped."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim > 1:
                noise = noise / math.sqrt(tensor[0].numel())
            else:
                noise = 0.3 * noise
            tensor.copy_(noise)
        for layer in module.modules():
            if isinstance(layer, nn.GroupNorm):
                layer.weight += 1.0
    return module.eval()


def converted(values, transform):
    """Returns a NumPy tensor of this network in the layout that a transform names."""
    if transform == "conv":
        return np.moveaxis(values, (2, 3), (0, 1)).swapaxes(2, 3)
    if transform == "linear":
        return values.T
    if transform == "conv1d":
        return values[:, :, 0].T
    assert transform == "as_is"
    return values
