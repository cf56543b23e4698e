"""The UNet's layers in order, for the network and for the checkpoint's names alike."""

from typing import Literal, NamedTuple

from fusionproxy_jax.config import MaskDifuserNetConfig


class Layer(NamedTuple):
    """One entry of the UNet's lists; a residual block changes the width, others not."""

    kind: Literal["residual", "down", "up"]
    in_width: int
    width: int
    self_attention: bool = False
    cross_attention: bool = False


class LayerPlan(NamedTuple):
    """The lists, by the checkpoint's names."""

    downblocks: list[Layer]
    middleblocks: list[Layer]
    upblocks: list[Layer]


def layer_plan(config: MaskDifuserNetConfig) -> LayerPlan:
    """Returns every layer, with the width it meets.

    All outputs on the way down, the stem's too, are skips; a residual block on the way
    up has one concatenated to its input.
    """
    widths = [config.base_width * factor for factor in config.multipliers]
    last = len(widths) - 1
    width = config.base_width
    skips = [width]

    def residual(in_width: int, level: int) -> Layer:
        return Layer(
            "residual",
            in_width,
            widths[level],
            self_attention=level in config.self_attention_levels,
            cross_attention=level in config.cross_attention_levels,
        )

    down = []
    for level in range(len(widths)):
        for _ in range(config.num_blocks):
            down.append(residual(width, level))
            width = widths[level]
            skips.append(width)
        if level < last:
            down.append(Layer("down", width, width))
            skips.append(width)
    attend = bool(config.self_attention_levels)
    middle = [
        Layer("residual", width, width, self_attention=attend, cross_attention=True),
        Layer("residual", width, width, cross_attention=True),
    ]
    up = []
    for level in range(last, -1, -1):
        for _ in range(config.num_blocks + 1):
            up.append(residual(width + skips.pop(), level))
            width = widths[level]
        if level > 0:
            up.append(Layer("up", width, width))
    return LayerPlan(down, middle, up)
