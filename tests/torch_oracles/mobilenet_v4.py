"""MobileNetV4-Conv-M in PyTorch, to compare with: NCHW, blocks by their kinds."""

from torch import nn
from torch_oracles.batch_norm import conv_norm, folded

# Kind of block, kernel sizes and expansion as the paper's table lists them.
STAGES = (
    "ExtraDW:3:5:4 ExtraDW:3:3:2",
    "ExtraDW:3:5:6 ExtraDW:3:3:4 ExtraDW:3:3:4 ExtraDW:3:5:4 ExtraDW:3:3:4 "
    "ConvNext:3:-:4 FFN:-:-:2 ConvNext:3:-:4",
    "ExtraDW:5:5:6 ExtraDW:5:5:4 ExtraDW:3:5:4 ExtraDW:3:5:4 FFN:-:-:4 "
    "ConvNext:3:-:4 ExtraDW:3:5:2 ExtraDW:5:5:4 FFN:-:-:4 FFN:-:-:4 ConvNext:5:-:2",
)


class Block(nn.Module):
    """Up to four layers; what precedes the expansion and what ends has no ReLU."""

    def __init__(self, in_width, width, row, stride):
        super().__init__()
        kind, first, second, expansion = row.split(":")
        hidden = int(expansion) * in_width
        layers = {}
        if kind in ("ExtraDW", "ConvNext"):
            layers["start_depthwise"] = conv_norm(
                in_width, in_width, int(first), groups=in_width
            )
        layers["expand"] = conv_norm(in_width, hidden)
        if kind == "ExtraDW":
            layers["middle_depthwise"] = conv_norm(
                hidden, hidden, int(second), stride, groups=hidden
            )
        layers["project"] = conv_norm(hidden, width)
        self.layers = nn.ModuleDict(layers)
        self.adds = stride == 1 and in_width == width

    def forward(self, x):
        y = x
        for name, layer in self.layers.items():
            y = layer(y)
            if name in ("expand", "middle_depthwise"):
                y = y.relu()
        return x + y if self.adds else y

    def params(self):
        return {name: folded(layer) for name, layer in self.layers.items()}


class Encoder(nn.Module):
    """Returns the maps at 1/2, 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self, stem_width, widths):
        super().__init__()
        self.stem = conv_norm(3, stem_width, 3, 2)
        self.fused = nn.ModuleDict(
            {
                "expand": conv_norm(stem_width, 4 * stem_width, 3, 2),
                "project": conv_norm(4 * stem_width, widths[0]),
            }
        )
        self.stages = nn.ModuleList()
        for in_width, width, rows in zip(widths, widths[1:], STAGES, strict=False):
            stage = nn.ModuleList()
            for index, row in enumerate(rows.split()):
                first = index == 0
                stage.append(
                    Block(in_width if first else width, width, row, 2 if first else 1)
                )
            self.stages.append(stage)

    def forward(self, image):
        x = self.stem(image).relu()
        maps = [x]
        x = self.fused["project"](self.fused["expand"](x).relu())
        maps.append(x)
        for stage in self.stages:
            for block in stage:
                x = block(x)
            maps.append(x)
        return maps

    def params(self):
        return {
            "stem": folded(self.stem),
            "fused": {name: folded(layer) for name, layer in self.fused.items()},
            **{
                f"stage{stage}_block{index}": block.params()
                for stage, blocks in enumerate(self.stages)
                for index, block in enumerate(blocks)
            },
        }


class ClassificationHead(nn.Module):
    """What the published network has after the encoder."""

    def __init__(self, width):
        super().__init__()
        self.wide = conv_norm(width, 960)
        self.wider = conv_norm(960, 1280)
        self.classes = nn.Linear(1280, 1000)
