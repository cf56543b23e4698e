"""Blocks of a guided-diffusion UNet: their widths, and the reference's names.

Both the network and the table of its checkpoint's keys are made from this list. A part
`input_blocks_10_1` is `input_blocks.10.1` in the reference.
"""

from typing import Literal, NamedTuple

from fusionproxy_jax.config.checks import require
from fusionproxy_jax.config.networks import UNetConfig

Resample = Literal["none", "up", "down"]


class Part(NamedTuple):
    """A convolution, a residual block or an attention block."""

    name: str
    kind: Literal["conv", "residual", "attention"]
    in_width: int
    out_width: int
    resample: Resample = "none"


class Layout(NamedTuple):
    """Blocks of parts, in order.

    The output of every block of `encoder` is kept, and every block of `decoder` takes
    the last one that is left.
    """

    encoder: tuple[tuple[Part, ...], ...]
    middle: tuple[Part, ...]
    decoder: tuple[tuple[Part, ...], ...]
    out_width: int

    def parts(self) -> tuple[Part, ...]:
        """Returns all parts in order of use."""
        blocks = (*self.encoder, self.middle, *self.decoder)
        return tuple(part for block in blocks for part in block)


def unet_layout(config: UNetConfig) -> Layout:
    """Returns the blocks of a configuration.

    Levels have `num_blocks` residual blocks down and one more up, each with attention
    where the level's factor 2^level is in `attention_factors`. The middle has attention
    unless no factor is named.

    Raises:
      FusionProxyError: Heads do not divide a width with attention.
    """
    widths = [config.base_width * m for m in config.multipliers]
    last = len(widths) - 1
    width = widths[0]
    in_width = config.in_channels * config.patch_px**2
    encoder = [(Part("input_blocks_0_0", "conv", in_width, width),)]
    kept = [width]
    for level, out_width in enumerate(widths):
        for _ in range(config.num_blocks):
            block = f"input_blocks_{len(encoder)}"
            parts = [Part(f"{block}_0", "residual", width, out_width)]
            width = out_width
            if 2**level in config.attention_factors:
                parts.append(_attention(f"{block}_1", width, config))
            encoder.append(tuple(parts))
            kept.append(width)
        if level < last:
            name = f"input_blocks_{len(encoder)}_0"
            encoder.append((Part(name, "residual", width, width, "down"),))
            kept.append(width)

    middle = [Part("middle_block_0", "residual", width, width)]
    if config.attention_factors:
        middle.append(_attention("middle_block_1", width, config))
    middle.append(Part(f"middle_block_{len(middle)}", "residual", width, width))

    decoder = []
    for level, out_width in reversed(list(enumerate(widths))):
        for index in range(config.num_blocks + 1):
            block = f"output_blocks_{len(decoder)}"
            parts = [Part(f"{block}_0", "residual", width + kept.pop(), out_width)]
            width = out_width
            if 2**level in config.attention_factors:
                parts.append(_attention(f"{block}_1", width, config))
            if level > 0 and index == config.num_blocks:
                name = f"{block}_{len(parts)}"
                parts.append(Part(name, "residual", width, width, "up"))
            decoder.append(tuple(parts))
    return Layout(tuple(encoder), tuple(middle), tuple(decoder), width)


def _attention(name: str, width: int, config: UNetConfig) -> Part:
    require(
        width % config.head_width == 0,
        "unet.head_width",
        config.head_width,
        f"a divisor of {width}, the width of a block with attention",
    )
    return Part(name, "attention", width, width)
