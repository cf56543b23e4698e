"""Mask-DiFuser's network in PyTorch, with the released checkpoint's names.

Written from a description, to compare with: images NCHW, any sizes the description
leaves open are arguments. Nothing here is fast.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fusionproxy_jax.config import MaskDifuserNetConfig

# Every kind of layer, and widths that the groups do not divide.
TINY = MaskDifuserNetConfig(
    base_width=8,
    multipliers=(1, 2),
    num_blocks=1,
    self_attention_levels=(1,),
    cross_attention_levels=(0, 1),
    content_widths=(6, 8, 12),
    semantic_widths=(6, 8, 16),
    semantic_layers=2,
    semantic_heads=4,
    semantic_hidden=24,
    num_groups=4,
)


def _norm(groups, width):
    return nn.GroupNorm(math.gcd(groups, width), width, eps=1e-5)


def _conv(in_width, width, side=3, stride=1):
    return nn.Conv2d(in_width, width, side, stride, padding=side // 2)


class TimeEmbedding(nn.Module):
    def __init__(self, width):
        super().__init__()
        table = torch.zeros(1000, width)
        steps = torch.arange(1000.0)
        for pair in range(width // 2):
            angle = steps / 10000.0 ** (2 * pair / width)
            table[:, 2 * pair] = torch.sin(angle)
            table[:, 2 * pair + 1] = torch.cos(angle)
        self.timembedding = nn.Sequential(
            nn.Embedding.from_pretrained(table),
            nn.Linear(width, 4 * width),
            nn.SiLU(),
            nn.Linear(4 * width, 4 * width),
        )

    def forward(self, index):
        return self.timembedding(index)


class Fusion(nn.Module):
    def __init__(self, width, groups):
        super().__init__()
        sizes = [(4, 2), (2, 1), (2, 1), (1, 1)]
        for number, (in_factor, factor) in enumerate(sizes, 1):
            conv = _conv(in_factor * width, factor * width, side=1)
            setattr(self, f"conv{number}", conv)
            setattr(self, f"norm{number}", _norm(groups, factor * width))

    def forward(self, a, b):
        both = torch.cat([a, b], 1)
        pooled = torch.cat([both.mean((2, 3)), both.amax((2, 3))], 1)[..., None, None]
        pooled = functional.silu(self.norm1(self.conv1(pooled)))
        pooled = self.norm2(self.conv2(pooled))
        local = functional.silu(self.norm3(self.conv3(both)))
        local = self.norm4(self.conv4(local))
        gate = 1 / (1 + torch.exp(-(pooled + local)))
        return b + gate * (a - b)


def _stack(in_width, widths, groups, stride):
    layers = [_conv(in_width, widths[0])]
    for before, width in zip(widths, widths[1:], strict=False):
        layers += [_norm(groups, before), nn.SiLU(), _conv(before, width, 3, stride)]
    return nn.Sequential(*layers)


class ContentEncoder(nn.Module):
    def __init__(self, in_width, widths, groups):
        super().__init__()
        last, half = widths[-1], widths[-1] // 2
        self.conv = _stack(in_width, widths, groups, stride=1)
        self.fusion = Fusion(last, groups)
        self.enhance = nn.Sequential(
            *(_norm(groups, last), nn.SiLU(), _conv(last, half)),
            *(_norm(groups, half), nn.SiLU(), _conv(half, half)),
        )

    def forward(self, a, b):
        return self.enhance(self.fusion(self.conv(a), self.conv(b)))


class Transformer(nn.Module):
    def __init__(self, width, heads, hidden, num_layers):
        super().__init__()
        # Only copies of this layer are used; it stays in the state dict.
        self.layers = nn.TransformerEncoderLayer(width, heads, hidden, dropout=0.0)
        self.transformer_encoder = nn.TransformerEncoder(
            self.layers, num_layers, enable_nested_tensor=False
        )


class SemanticEncoder(nn.Module):
    def __init__(self, in_width, config):
        super().__init__()
        widths = config.semantic_widths
        self.conv = _stack(in_width, widths, config.num_groups, stride=2)
        self.transformer_encoder = Transformer(
            widths[-1],
            config.semantic_heads,
            config.semantic_hidden,
            config.semantic_layers,
        )

    def forward(self, view):
        features = self.conv(view)
        tokens = features.flatten(2).permute(2, 0, 1)
        tokens = self.transformer_encoder.transformer_encoder(tokens)
        return tokens.permute(1, 2, 0).reshape(features.shape)


def _attend(query, key, value):
    query, key, value = (x.flatten(2).transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
    return (torch.softmax(scores, -1) @ value).transpose(1, 2)


class SelfAttention(nn.Module):
    def __init__(self, width, groups):
        super().__init__()
        self.group_norm = _norm(groups, width)
        for name in ("proj_q", "proj_k", "proj_v", "proj"):
            setattr(self, name, _conv(width, width, side=1))

    def forward(self, x):
        y = self.group_norm(x)
        y = _attend(self.proj_q(y), self.proj_k(y), self.proj_v(y))
        return x + self.proj(y.reshape(x.shape))


class CrossAttention(nn.Module):
    def __init__(self, width, condition_width, groups):
        super().__init__()
        self.norm_x = _norm(groups, width)
        self.norm_cond = _norm(groups, condition_width)
        self.proj_q = _conv(width, width, side=1)
        self.proj_k1 = _conv(condition_width, width, side=1)
        self.proj_v1 = _conv(condition_width, width, side=1)

    def forward(self, x, condition):
        condition = self.norm_cond(condition)
        query = self.proj_q(self.norm_x(x))
        result = _attend(query, self.proj_k1(condition), self.proj_v1(condition))
        return result.reshape(x.shape)


class ResidualBlock(nn.Module):
    def __init__(self, in_width, width, config, self_attention, cross_attention):
        super().__init__()
        groups = config.num_groups
        self.block1 = nn.Sequential(
            _norm(groups, in_width), nn.SiLU(), _conv(in_width, width)
        )
        self.temb_proj = nn.Sequential(
            nn.SiLU(), nn.Linear(4 * config.base_width, width)
        )
        self.block2 = nn.Sequential(
            _norm(groups, width), nn.SiLU(), nn.Identity(), _conv(width, width)
        )
        self.shortcut = (
            nn.Identity() if in_width == width else _conv(in_width, width, side=1)
        )
        self.attn = SelfAttention(width, groups) if self_attention else nn.Identity()
        self.attends = cross_attention
        if cross_attention:
            self.cross_attention = CrossAttention(
                width, config.semantic_widths[-1], groups
            )
            self.conbine = nn.Sequential(
                _conv(3 * width, width), _norm(groups, width), nn.SiLU()
            )

    def forward(self, x, time, tokens_a, tokens_b):
        y = self.block1(x) + self.temb_proj(time)[..., None, None]
        x = self.attn(self.block2(y) + self.shortcut(x))
        if not self.attends:
            return x
        attend = self.cross_attention
        one = attend(attend(x, tokens_a), tokens_b)
        other = attend(attend(x, tokens_b), tokens_a)
        return self.conbine(torch.cat([one, other, one + other], 1)) + x


class Resample(nn.Module):
    def __init__(self, width, up):
        super().__init__()
        self.up = up
        self.main = _conv(width, width, stride=1 if up else 2)

    def forward(self, x, *_):
        if self.up:
            x = functional.interpolate(
                x, scale_factor=2, mode="bilinear", align_corners=False
            )
        return self.main(x)


class MaskDifuser(nn.Module):
    def __init__(self, config, *, in_channels=3, out_channels=3):
        super().__init__()
        groups, base = config.num_groups, config.base_width
        half = config.content_widths[-1] // 2
        self.time_embedding = TimeEmbedding(base)
        self.content_encoder = ContentEncoder(
            in_channels, config.content_widths, groups
        )
        self.encoder = SemanticEncoder(in_channels, config)
        self.proj_in = nn.Sequential(
            _conv(in_channels, half), _norm(groups, half), nn.SiLU()
        )
        self.conbine = self.proj_in
        self.head = _conv(2 * half, base)

        def block(in_width, level):
            return ResidualBlock(
                in_width,
                base * config.multipliers[level],
                config,
                level in config.self_attention_levels,
                level in config.cross_attention_levels,
            )

        width, kept = base, [base]
        levels = range(len(config.multipliers))
        self.downblocks = nn.ModuleList()
        for level in levels:
            for _ in range(config.num_blocks):
                self.downblocks.append(block(width, level))
                width = base * config.multipliers[level]
                kept.append(width)
            if level != levels[-1]:
                self.downblocks.append(Resample(width, up=False))
                kept.append(width)
        attends = bool(config.self_attention_levels)
        self.middleblocks = nn.ModuleList(
            ResidualBlock(width, width, config, own, True) for own in (attends, False)
        )
        self.upblocks = nn.ModuleList()
        for level in reversed(levels):
            for _ in range(config.num_blocks + 1):
                self.upblocks.append(block(width + kept.pop(), level))
                width = base * config.multipliers[level]
            if level:
                self.upblocks.append(Resample(width, up=True))
        self.tail = nn.Sequential(
            _norm(groups, base), nn.SiLU(), _conv(base, out_channels)
        )

    def forward(self, view_a, view_b, noisy, index):
        given = (
            self.time_embedding(index),
            self.encoder(view_a),
            self.encoder(view_b),
        )
        content = self.content_encoder(view_a, view_b)
        x = self.head(torch.cat([content, self.proj_in(noisy)], 1))
        kept = [x]
        for layer in self.downblocks:
            x = layer(x, *given)
            kept.append(x)
        for layer in self.middleblocks:
            x = layer(x, *given)
        for layer in self.upblocks:
            if isinstance(layer, ResidualBlock):
                x = torch.cat([x, kept.pop()], 1)
            x = layer(x, *given)
        return self.tail(x)


def randomise(module, seed=0):
    """Redraws every tensor, norms and biases too; returns the module for use."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            values = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim > 1:
                tensor.copy_(values / math.sqrt(tensor[0].numel()))
            else:
                tensor.copy_(0.5 + 0.3 * values)
    return module.eval()


def as_flax(state_dict, table):
    """Returns nested Flax parameters by a key table, with its own transposes."""
    params = {}
    for key, (path, transform) in table.items():
        value = state_dict[key].numpy()
        if transform == "conv":
            value = np.einsum("oihw->hwio", value)
        elif transform == "linear":
            value = np.einsum("oi->io", value)
        *folders, name = path.split("/")
        place = params
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = np.ascontiguousarray(value)
    return params


def run(module, *images, **options):
    """Applies a module to NHWC arrays (integers as they are); returns NHWC."""
    tensors = [
        torch.from_numpy(np.array(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x))
        for x in map(np.asarray, images)
    ]
    with torch.no_grad():
        return module(*tensors, **options).numpy().transpose(0, 2, 3, 1)
