"""Names of the released Mask-DiFuser checkpoint, and where each tensor belongs.

The released state dict also holds a layer that was only the template of others, and
the noisy branch under a second name; both are listed here so that nothing else may be
left over.
"""

from collections.abc import Iterator
from types import MappingProxyType

from fusionproxy_jax.config import MaskDifuserNetConfig
from fusionproxy_jax.teachers.mask_difuser.plan import Layer, layer_plan

IGNORED = ("encoder.transformer_encoder.layers.*",)

ALIASES = MappingProxyType(
    {
        f"conbine.{index}.{leaf}": f"proj_in.{index}.{leaf}"
        for index in (0, 1)
        for leaf in ("weight", "bias")
    }
)

Rule = tuple[str, tuple[str, str]]


def mask_difuser_key_table(config: MaskDifuserNetConfig) -> dict[str, tuple[str, str]]:
    """Returns source key -> (`/`-joined Flax path, transform).

    Transforms are those of `checkpoints.conversion`. Other configurations than the
    published one have the names the released code would give them.
    """
    table = {"time_embedding.timembedding.0.weight": ("time_embedding/table", "as_is")}
    table.update(_linear("time_embedding.timembedding.1", "time_embedding/dense_1"))
    table.update(_linear("time_embedding.timembedding.3", "time_embedding/dense_3"))
    table.update(_content_encoder(len(config.content_widths)))
    table.update(_semantic_encoder(len(config.semantic_widths), config.semantic_layers))
    table.update(_conv("proj_in.0", "proj_in/conv"))
    table.update(_norm("proj_in.1", "proj_in/norm"))
    table.update(_conv("head", "head"))
    table.update(_norm("tail.0", "tail/norm"))
    table.update(_conv("tail.2", "tail/conv"))
    for blocks, layers in layer_plan(config)._asdict().items():
        for index, layer in enumerate(layers):
            source, target = f"{blocks}.{index}", f"{blocks}_{index}"
            if layer.kind == "residual":
                table.update(_residual(source, target, layer))
            else:
                table.update(_conv(f"{source}.main", f"{target}/main"))
    return table


def _content_encoder(num_convs: int) -> Iterator[Rule]:
    name = "content_encoder"
    yield from _conv_stack(f"{name}.conv", f"{name}/conv", num_convs)
    for number in range(1, 5):
        source, target = f"{name}.fusion", f"{name}/fusion"
        yield from _conv(f"{source}.conv{number}", f"{target}/conv{number}")
        yield from _norm(f"{source}.norm{number}", f"{target}/norm{number}")
    for index in (0, 3):
        yield from _norm(f"{name}.enhance.{index}", f"{name}/enhance_{index}")
        yield from _conv(f"{name}.enhance.{index + 2}", f"{name}/enhance_{index + 2}")


def _semantic_encoder(num_convs: int, num_layers: int) -> Iterator[Rule]:
    yield from _conv_stack("encoder.conv", "encoder/conv", num_convs)
    for index in range(num_layers):
        source = f"encoder.transformer_encoder.transformer_encoder.layers.{index}"
        target = f"encoder/layers_{index}"
        # Its three projections are one tensor, named without a dot.
        yield (
            f"{source}.self_attn.in_proj_weight",
            (f"{target}/in_proj/kernel", "linear"),
        )
        yield f"{source}.self_attn.in_proj_bias", (f"{target}/in_proj/bias", "as_is")
        yield from _linear(f"{source}.self_attn.out_proj", f"{target}/out_proj")
        for name in ("linear1", "linear2"):
            yield from _linear(f"{source}.{name}", f"{target}/{name}")
        for name in ("norm1", "norm2"):
            yield from _norm(f"{source}.{name}", f"{target}/{name}")


def _conv_stack(source: str, target: str, num_convs: int) -> Iterator[Rule]:
    """Convolutions with a norm and an activation between two of them."""
    for index in range(num_convs):
        if index:
            norm = 3 * index - 2
            yield from _norm(f"{source}.{norm}", f"{target}_{norm}")
        yield from _conv(f"{source}.{3 * index}", f"{target}_{3 * index}")


def _residual(source: str, target: str, layer: Layer) -> Iterator[Rule]:
    yield from _norm(f"{source}.block1.0", f"{target}/block1_0")
    yield from _conv(f"{source}.block1.2", f"{target}/block1_2")
    yield from _linear(f"{source}.temb_proj.1", f"{target}/temb_proj_1")
    yield from _norm(f"{source}.block2.0", f"{target}/block2_0")
    yield from _conv(f"{source}.block2.3", f"{target}/block2_3")
    if layer.in_width != layer.width:
        yield from _conv(f"{source}.shortcut", f"{target}/shortcut")
    if layer.self_attention:
        yield from _norm(f"{source}.attn.group_norm", f"{target}/attn/group_norm")
        for name in ("proj_q", "proj_k", "proj_v", "proj"):
            yield from _conv(f"{source}.attn.{name}", f"{target}/attn/{name}")
    if layer.cross_attention:
        for name in ("norm_x", "norm_cond"):
            place = f"{source}.cross_attention.{name}"
            yield from _norm(place, f"{target}/cross_attention/{name}")
        for name in ("proj_q", "proj_k1", "proj_v1"):
            place = f"{source}.cross_attention.{name}"
            yield from _conv(place, f"{target}/cross_attention/{name}")
        yield from _conv(f"{source}.conbine.0", f"{target}/conbine_0")
        yield from _norm(f"{source}.conbine.1", f"{target}/conbine_1")


def _conv(source: str, target: str) -> Iterator[Rule]:
    yield f"{source}.weight", (f"{target}/kernel", "conv")
    yield f"{source}.bias", (f"{target}/bias", "as_is")


def _linear(source: str, target: str) -> Iterator[Rule]:
    yield f"{source}.weight", (f"{target}/kernel", "linear")
    yield f"{source}.bias", (f"{target}/bias", "as_is")


def _norm(source: str, target: str) -> Iterator[Rule]:
    yield f"{source}.weight", (f"{target}/scale", "as_is")
    yield f"{source}.bias", (f"{target}/bias", "as_is")
