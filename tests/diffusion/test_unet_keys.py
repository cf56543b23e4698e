import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_oracles import adm_unet

from fusionproxy_jax.checkpoints.weights import flatten
from fusionproxy_jax.config.networks import UNetConfig
from fusionproxy_jax.diffusion.unet import UNet
from fusionproxy_jax.diffusion.unet_keys import unet_key_table
from fusionproxy_jax.diffusion.unet_layout import unet_layout
from fusionproxy_jax.errors import FusionProxyError

NUM_TENSORS = 566
NUM_PARAMETERS = 552_814_086

# Parameters of the released model per entry of its lists of blocks.
INPUT_BLOCKS = (
    [7_168, 1_705_984, 1_705_984, 1_705_984, 1_705_984, 1_705_984, 1_705_984]
    + [4_722_688, 5_771_264, 5_771_264, 6_822_912, 6_822_912, 5_771_264]
    + [20_985_856, 25_180_160, 20_979_712, 25_180_160, 25_180_160]
)
MIDDLE_BLOCK = 46_159_872
OUTPUT_BLOCKS = (
    [36_717_568, 36_717_568, 57_697_280, 36_717_568, 36_717_568, 52_453_376]
    + [12_330_496, 9_708_032, 15_479_296, 8_656_384, 8_656_384, 13_116_416]
    + [3_083_520, 2_427_648, 4_133_632, 2_427_648, 2_427_648, 2_427_648]
)


def _shapes(config):
    """Shapes of our parameters by path."""
    variables = jax.eval_shape(
        UNet(config).init,
        jax.random.key(0),
        jnp.zeros((1, config.stride, config.stride, config.in_channels)),
        jnp.zeros((1,), jnp.int32),
    )
    return {path: leaf.shape for path, leaf in flatten(variables["params"]).items()}


@pytest.fixture(scope="module")
def full_shapes():
    return _shapes(UNetConfig())


def _reference_shapes(**options):
    with torch.device("meta"):
        network = adm_unet.AdmUNet(**options)
    return {key: tuple(t.shape) for key, t in network.state_dict().items()}


def _converted_shapes(reference, table):
    return {
        table[key][0]: adm_unet.converted(
            # One number, repeated: a shape without its memory.
            np.broadcast_to(np.float32(0), shape),
            table[key][1],
        ).shape
        for key, shape in reference.items()
    }


def test_the_table_names_every_tensor_of_the_released_model(full_shapes):
    reference, table = _reference_shapes(), unet_key_table(UNetConfig())
    assert len(reference) == len(full_shapes) == NUM_TENSORS
    assert sum(map(np.prod, reference.values())) == NUM_PARAMETERS
    assert sum(map(np.prod, full_shapes.values())) == NUM_PARAMETERS
    assert set(table) == set(reference)
    assert _converted_shapes(reference, table) == full_shapes


@pytest.mark.parametrize(
    ("options", "config"),
    [
        (
            dict(image_size=32, multipliers=(1, 3), attention_sizes=(32,)),
            dict(multipliers=(1, 3), attention_factors=(1,)),
        ),
        (
            # Attention in the middle alone: no level has that factor.
            dict(image_size=32, multipliers=(2, 1, 2), attention_sizes=()),
            dict(multipliers=(2, 1, 2), attention_factors=(64,)),
        ),
        (
            dict(multipliers=(1,), attention_sizes=(), num_blocks=3, in_channels=1),
            dict(multipliers=(1,), attention_factors=(2,), num_blocks=3, in_channels=1),
        ),
    ],
    ids=["attention at full size", "middle attention", "one level"],
)
def test_the_table_fits_other_configurations(options, config):
    reference = _reference_shapes(base=32, head_width=32, groups=8, **options)
    config = UNetConfig(base_width=32, head_width=32, num_groups=8, **config)
    table = unet_key_table(config)
    assert set(table) == set(reference)
    assert _converted_shapes(reference, table) == _shapes(config)


def test_blocks_of_the_released_model_have_their_sizes(full_shapes):
    sizes = {}
    for path, shape in full_shapes.items():
        # input_blocks_10_1/qkv/kernel counts for input_blocks_10.
        block = re.match(r"(in|out)put_blocks_\d+|middle_block|\w+?(?=_\d)", path)[0]
        sizes[block] = sizes.get(block, 0) + int(np.prod(shape))
    expected = {
        **{f"input_blocks_{k}": size for k, size in enumerate(INPUT_BLOCKS)},
        "middle_block": MIDDLE_BLOCK,
        **{f"output_blocks_{k}": size for k, size in enumerate(OUTPUT_BLOCKS)},
        "time_embed": 256 * 1024 + 1024 + 1024 * 1024 + 1024,
        "out": 2 * 256 + 9 * 256 * 6 + 6,
    }
    assert sizes == expected


def test_attention_and_resampling_are_where_the_released_model_has_them():
    parts = unet_layout(UNetConfig()).parts()
    attention = {part.name for part in parts if part.kind == "attention"}
    assert attention == (
        {f"input_blocks_{k}_1" for k in (10, 11, 13, 14, 16, 17)}
        | {"middle_block_1"}
        | {f"output_blocks_{k}_1" for k in range(9)}
    )
    down = [part.name for part in parts if part.resample == "down"]
    assert down == [f"input_blocks_{k}_0" for k in (3, 6, 9, 12, 15)]
    up = [part.name for part in parts if part.resample == "up"]
    assert up == [f"output_blocks_{k}" for k in ("2_2", "5_2", "8_2", "11_1", "14_1")]


def test_keys_lead_to_the_paths_that_follow_them():
    table = unet_key_table(UNetConfig())
    assert table["input_blocks.10.1.qkv.weight"] == (
        "input_blocks_10_1/qkv/kernel",
        "conv1d",
    )
    assert table["output_blocks.11.1.in_layers.0.weight"] == (
        "output_blocks_11_1/in_layers_0/scale",
        "as_is",
    )
    assert table["time_embed.2.weight"] == ("time_embed_2/kernel", "linear")
    assert table["out.2.bias"] == ("out_2/bias", "as_is")


def test_a_network_on_patches_has_no_checkpoint_names():
    with pytest.raises(FusionProxyError, match="unet.patch_px is 2"):
        unet_key_table(UNetConfig(patch_px=2))


def test_heads_must_divide_widths_with_attention():
    with pytest.raises(FusionProxyError, match="unet.head_width is 64.*of 96"):
        unet_layout(UNetConfig(base_width=96, multipliers=(1,), attention_factors=(1,)))
