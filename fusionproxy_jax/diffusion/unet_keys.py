"""Names of a guided-diffusion UNet's tensors, in its checkpoints and here."""

import re
from collections.abc import Iterator
from types import MappingProxyType

from fusionproxy_jax.config.networks import UNetConfig
from fusionproxy_jax.diffusion.unet_layout import Part, unet_layout
from fusionproxy_jax.errors import FusionProxyError

# Transform of a module's weight -> name of that parameter in Flax. A norm's weight is
# its scale.
_WEIGHT_NAMES = MappingProxyType(
    {"conv": "kernel", "linear": "kernel", "conv1d": "kernel", "as_is": "scale"}
)


def unet_key_table(config: UNetConfig) -> dict[str, tuple[str, str]]:
    """Returns checkpoint key -> (path below "params", transform of its values).

    Transforms: `conv` (o, i, h, w) -> (h, w, i, o); `linear` (o, i) -> (i, o);
    `conv1d` (o, i, 1) -> (i, o); `as_is`. The order of qkv's channels is kept.

    Raises:
        FusionProxyError: The network works on patches, which no checkpoint of guided
            diffusion does.
    """
    if config.patch_px != 1:
        raise FusionProxyError(
            f"unet.patch_px is {config.patch_px}; guided-diffusion checkpoints need 1"
        )
    table: dict[str, tuple[str, str]] = {}
    for path, transform in _modules(config):
        source = _reference_name(path)
        table[f"{source}.weight"] = (f"{path}/{_WEIGHT_NAMES[transform]}", transform)
        table[f"{source}.bias"] = (f"{path}/bias", "as_is")
    return table


def _modules(config: UNetConfig) -> Iterator[tuple[str, str]]:
    """Yields the path of every module with tensors, and its weight's transform."""
    yield "time_embed_0", "linear"
    yield "time_embed_2", "linear"
    for part in unet_layout(config).parts():
        yield from _part_modules(part)
    yield "out_0", "as_is"
    yield "out_2", "conv"


def _part_modules(part: Part) -> Iterator[tuple[str, str]]:
    if part.kind == "conv":
        yield part.name, "conv"
    elif part.kind == "attention":
        yield f"{part.name}/norm", "as_is"
        yield f"{part.name}/qkv", "conv1d"
        yield f"{part.name}/proj_out", "conv1d"
    else:
        yield f"{part.name}/in_layers_0", "as_is"
        yield f"{part.name}/in_layers_2", "conv"
        yield f"{part.name}/emb_layers_1", "linear"
        yield f"{part.name}/out_layers_0", "as_is"
        yield f"{part.name}/out_layers_3", "conv"
        if part.in_width != part.out_width:
            yield f"{part.name}/skip_connection", "conv"


def _reference_name(path: str) -> str:
    """Returns the reference's name: `/`, and `_` in front of a number, is a dot."""
    return re.sub(r"/|_(?=\d)", ".", path)
