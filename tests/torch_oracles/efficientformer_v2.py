"""EfficientFormerV2-S1 in PyTorch, to compare with: NCHW, tied to one image size.

As published, the attention biases are a parameter per offset that occurs at that size,
gathered by a table of offsets.
"""

import torch
from torch import nn
from torch.nn import functional
from torch_oracles.batch_norm import array, conv_norm, folded, kernel

EXPANSIONS = ("444", "444", "443333444", "443344")
HEADS = 8


def offsets(query_side, key_side):
    """Returns the number of each query-key pair's offset, row by row of the table."""
    step = key_side // query_side
    query = torch.arange(query_side) * step
    distance = (query[:, None] - torch.arange(key_side)[None]).abs()
    index = distance[:, None, :, None] * key_side + distance[None, :, None, :]
    return index.reshape(query_side**2, key_side**2)


class Attention(nn.Module):
    """Attention of `side`^2 queries; with `out_width` the path that halves the size."""

    def __init__(self, width, side, strided=False, out_width=None):
        super().__init__()
        self.strided, self.halves = strided, out_width is not None
        key_width = 16 if self.halves else 32
        self.scale = key_width**-0.5
        layers = {}
        if strided:
            layers["halve"] = conv_norm(width, width, 3, 2, groups=width, bias=True)
        values = 4 * HEADS * key_width
        layers["query"] = conv_norm(width, HEADS * key_width, bias=True)
        layers["key"] = conv_norm(width, HEADS * key_width, bias=True)
        layers["value"] = conv_norm(width, values, bias=True)
        layers["local_value"] = conv_norm(
            values, values, 3, 2 if self.halves else 1, groups=values, bias=True
        )
        layers["project"] = conv_norm(values, out_width or width, bias=True)
        self.layers = nn.ModuleDict(layers)
        key_side = 2 * side if self.halves else side
        self.register_buffer("index", offsets(side, key_side), persistent=False)
        self.bias = nn.Parameter(torch.zeros(HEADS, key_side**2))
        if self.halves:
            self.local_query = nn.Conv2d(width, width, 3, 2, padding=1, groups=width)
        else:
            self.before_softmax = nn.Conv2d(HEADS, HEADS, 1)
            self.after_softmax = nn.Conv2d(HEADS, HEADS, 1)

    def forward(self, x):
        layers = self.layers
        if self.strided:
            x = layers["halve"](x)
        source = self.local_query(x) + x[:, :, ::2, ::2] if self.halves else x
        query, key, value = (
            layers["query"](source),
            layers["key"](x),
            layers["value"](x),
        )

        def tokens(tensor):
            return tensor.unflatten(1, (HEADS, -1)).flatten(3).transpose(2, 3)

        scores = tokens(query) @ tokens(key).transpose(2, 3) * self.scale
        scores = scores + self.bias[:, self.index]
        if self.halves:
            weights = scores.softmax(-1)
        else:
            weights = self.after_softmax(self.before_softmax(scores).softmax(-1))
        attended = (weights @ tokens(value)).transpose(2, 3)
        y = attended.flatten(1, 2).unflatten(2, query.shape[2:])
        y = y + layers["local_value"](value)
        if self.strided:
            y = functional.interpolate(y, scale_factor=2, mode="bilinear")
        return layers["project"](functional.gelu(y))

    def params(self):
        side = round(self.bias.shape[1] ** 0.5)
        params = {name: folded(layer) for name, layer in self.layers.items()}
        params["bias"] = {"table": array(self.bias).reshape(HEADS, side, side)}
        if self.halves:
            params["local_query"] = {
                "kernel": kernel(self.local_query),
                "bias": array(self.local_query.bias),
            }
            return params
        for name in ("before_softmax", "after_softmax"):
            mix = getattr(self, name)
            params[name] = {"kernel": kernel(mix)[0, 0], "bias": array(mix.bias)}
        return params


class FeedForward(nn.Module):
    def __init__(self, width, expansion):
        super().__init__()
        hidden = expansion * width
        self.expand = conv_norm(width, hidden, bias=True)
        self.middle = conv_norm(hidden, hidden, 3, groups=hidden, bias=True)
        self.project = conv_norm(hidden, width, bias=True)

    def forward(self, x):
        x = functional.gelu(self.middle(functional.gelu(self.expand(x))))
        return self.project(x)

    def params(self):
        return {name: folded(layer) for name, layer in self.named_children()}


class Residual(nn.Module):
    """Adds a branch, scaled per channel."""

    def __init__(self, width, branch):
        super().__init__()
        self.branch = branch
        self.scale = nn.Parameter(1e-5 * torch.ones(width, 1, 1))

    def forward(self, x):
        return x + self.scale * self.branch(x)


class Encoder(nn.Module):
    """Returns the maps at 1/2 to 1/32 of an image with sides of `side` pixels."""

    def __init__(self, stem_width, widths, side):
        super().__init__()
        self.stem = conv_norm(3, stem_width, 3, 2, bias=True)
        self.downsample = nn.ModuleList()
        self.attention_path = nn.ModuleDict()
        self.blocks = nn.ModuleDict()
        for stage, width in enumerate(widths):
            in_width = widths[stage - 1] if stage else stem_width
            self.downsample.append(conv_norm(in_width, width, 3, 2, bias=True))
            if stage == 3:
                self.attention_path["path"] = Attention(
                    in_width, side // 32, out_width=width
                )
            depth = len(EXPANSIONS[stage])
            for index, expansion in enumerate(EXPANSIONS[stage]):
                name = f"stage{stage}_block{index}"
                if stage >= 2 and index >= depth - 2:
                    attention = Attention(width, side // 32, strided=stage == 2)
                    self.blocks[f"{name}_attention"] = Residual(width, attention)
                self.blocks[f"{name}_feed_forward"] = Residual(
                    width, FeedForward(width, int(expansion))
                )

    def forward(self, image):
        x = functional.gelu(self.stem(image))
        maps = [x]
        for stage, layer in enumerate(self.downsample):
            coarser = layer(x)
            if stage == 0:
                coarser = functional.gelu(coarser)
            if stage == 3:
                coarser = coarser + self.attention_path["path"](x)
            x = coarser
            for name, block in self.blocks.items():
                if name.startswith(f"stage{stage}_"):
                    x = block(x)
            maps.append(x)
        return maps

    def params(self):
        params = {"stem": folded(self.stem)}
        for stage, layer in enumerate(self.downsample):
            params[f"downsample{stage}"] = folded(layer)
        params["attention_path"] = self.attention_path["path"].params()
        for name, block in self.blocks.items():
            params[name] = block.branch.params()
            params[f"{name}_scale"] = {"scale": array(block.scale).reshape(-1)}
        return params


def redundant_parameters(network):
    """Counts the biases of convolutions before a batch normalisation."""
    return sum(
        layer[0].bias.numel()
        for layer in network.modules()
        if isinstance(layer, nn.Sequential) and layer[0].bias is not None
    )


class ClassificationHead(nn.Module):
    """What the published network has after the encoder: it learns from a teacher."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.classes = nn.Linear(width, 1000)
        self.distilled_classes = nn.Linear(width, 1000)
