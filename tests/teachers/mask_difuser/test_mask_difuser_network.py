import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_oracles import mask_difuser as oracle

from fusionproxy_jax.config import MaskDifuserNetConfig
from fusionproxy_jax.teachers.mask_difuser.keys import mask_difuser_key_table
from fusionproxy_jax.teachers.mask_difuser.network import (
    MaskDifuserNet,
    TimeEmbedding,
    time_table,
)

TINY = oracle.TINY
# What the compact networks use and the published one does not.
MIXTURE = dataclasses.replace(
    TINY,
    self_attention_levels=(),
    cross_attention_levels=(1,),
    patch_px=2,
    head="mixture",
    prediction="clean",
)


# One level: quick to compile.
FLAT = dataclasses.replace(
    TINY,
    multipliers=(1,),
    self_attention_levels=(0,),
    cross_attention_levels=(),
    semantic_layers=1,
)


def _images(height, width):
    images = np.random.default_rng(1).uniform(-1, 1, (3, 2, height, width, 3))
    return images.astype(np.float32)


def _shapes(config):
    image = jax.ShapeDtypeStruct((1, config.stride, config.stride, 3), jnp.float32)
    return jax.eval_shape(
        MaskDifuserNet(config).init,
        jax.random.key(0),
        *[image] * 3,
        jax.ShapeDtypeStruct((1,), jnp.int32),
    )["params"]


def _count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _fold(x, side):
    """Pixels of a square become channels, square's row first."""
    rows = [x[:, i::side, j::side] for i in range(side) for j in range(side)]
    return np.concatenate(rows, axis=-1)


def _unfold(x, side):
    batch, height, width, channels = x.shape
    result = np.empty((batch, height * side, width * side, channels // side**2))
    for number, part in enumerate(np.split(x, side**2, axis=-1)):
        result[:, number // side :: side, number % side :: side] = part
    return result


def test_the_network_equals_the_published_one_in_pytorch():
    published = oracle.randomise(oracle.MaskDifuser(TINY))
    params = oracle.as_flax(published.state_dict(), mask_difuser_key_table(TINY))
    images, index = _images(8, 12), np.array([3, 700])
    ours = jax.jit(MaskDifuserNet(TINY).apply)({"params": params}, *images, index)
    expected = oracle.run(published, *images, index)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def _bent(images):
    """The mixture's range: untouched up to 0.8, then bent towards 1."""
    size = np.abs(images)
    bent = 0.8 + 0.2 * np.tanh((size - 0.8) / 0.2)
    return np.where(size > 0.8, np.sign(images) * bent, images)


def test_the_mixture_adds_gated_views_to_the_same_trunk():
    published = oracle.randomise(
        oracle.MaskDifuser(MIXTURE, in_channels=12, out_channels=20)
    )
    params = oracle.as_flax(published.state_dict(), mask_difuser_key_table(MIXTURE))
    images, index = _images(8, 16), np.array([0, 999])
    ours = jax.jit(MaskDifuserNet(MIXTURE).apply)({"params": params}, *images, index)
    tail = _unfold(
        oracle.run(published, *[_fold(image, 2) for image in images], index), 2
    )
    gates = 1 / (1 + np.exp(-tail[..., 3:]))
    expected = tail[..., :3] + gates[..., :1] * images[0] + gates[..., 1:] * images[1]
    np.testing.assert_allclose(ours, _bent(expected), rtol=1e-4, atol=1e-5)


def test_a_new_mixture_is_the_average_of_the_views():
    config = dataclasses.replace(FLAT, head="mixture", prediction="clean")
    images, index = _images(8, 8), np.array([10, 500])
    network = MaskDifuserNet(config)
    published = oracle.randomise(oracle.MaskDifuser(config))
    params = oracle.as_flax(published.state_dict(), mask_difuser_key_table(config))
    # The rest of a new network is random too, and takes long to draw.
    params["tail"] = jax.jit(
        lambda *inputs: network.init(jax.random.key(0), *inputs)["params"]["tail"]
    )(*images, index)
    ours = jax.jit(network.apply)({"params": params}, *images, index)
    np.testing.assert_allclose(ours, _bent((images[0] + images[1]) / 2), atol=1e-6)


def test_half_precision_layers_keep_parameters_and_result_in_single():
    published = oracle.randomise(oracle.MaskDifuser(FLAT))
    params = oracle.as_flax(published.state_dict(), mask_difuser_key_table(FLAT))
    images, index = _images(8, 8), np.array([3, 700])
    network = MaskDifuserNet(FLAT, jnp.bfloat16)
    fresh = jax.eval_shape(network.init, jax.random.key(0), *images, index)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(fresh)} == {"float32"}
    half = jax.jit(network.apply)({"params": params}, *images, index)
    assert half.dtype == jnp.float32
    single = oracle.run(published, *images, index)
    error = np.sqrt(np.mean((half - single) ** 2)) / single.std()
    assert 1e-4 < error < 0.05


def test_the_published_network_has_the_published_number_of_parameters():
    params = _shapes(MaskDifuserNetConfig())
    # The table of sines is stored as a parameter, but it is not one.
    table = params["time_embedding"]["table"].size
    assert table == 1000 * 128
    assert _count(params) - table == 171_605_475
    assert _count(params["encoder"]) == 2_622_688
    assert _count(params["content_encoder"]) == 419_456


def test_levels_without_attention_have_no_parameters_for_it():
    blocks = _shapes(MIXTURE)
    assert not any("attn" in block for block in blocks.values())
    attending = {name for name, block in blocks.items() if "cross_attention" in block}
    assert attending == {
        "downblocks_2",
        "middleblocks_0",
        "middleblocks_1",
        "upblocks_0",
        "upblocks_1",
    }


@pytest.mark.parametrize("width", [8, 10])
def test_the_time_table_alternates_sines_and_cosines(width):
    expected = oracle.TimeEmbedding(width).timembedding[0].weight.numpy()
    np.testing.assert_allclose(time_table(width), expected, atol=1e-4)


def test_the_time_table_is_not_trained():
    embedding, index = TimeEmbedding(8), jnp.array([3, 700])
    params = embedding.init(jax.random.key(0), index)

    def loss(params):
        return jnp.sum(embedding.apply(params, index) ** 2)

    gradient = jax.tree.map(lambda leaf: jnp.abs(leaf).max(), jax.grad(loss)(params))
    assert gradient["params"].pop("table") == 0
    assert all(leaf > 0 for leaf in jax.tree.leaves(gradient))
