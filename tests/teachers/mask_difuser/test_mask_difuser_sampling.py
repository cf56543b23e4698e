import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_oracles import mask_difuser as oracle

from fusionproxy_jax.diffusion.schedule import linear_signal
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.mask_difuser.keys import mask_difuser_key_table
from fusionproxy_jax.teachers.mask_difuser.network import MaskDifuserNet
from fusionproxy_jax.teachers.mask_difuser.sampling import (
    Restorer,
    draw_samples,
    pad_to_multiple,
    restoration_levels,
)

# Its stride is 8: patches of 2, and a semantic encoder that halves twice.
MIXTURE = dataclasses.replace(
    oracle.TINY,
    multipliers=(1,),
    self_attention_levels=(),
    cross_attention_levels=(),
    semantic_layers=1,
    patch_px=2,
    head="mixture",
    prediction="clean",
)
NOISE = dataclasses.replace(MIXTURE, patch_px=1, head="direct", prediction="noise")
HEIGHT, WIDTH = 17, 21
# One length of chain, and mostly one number of samples, for one compilation.
DRAW = {"num_samples": 2, "num_steps": 4}


def _restorer(config):
    patch = config.patch_px**2
    outputs = (5 if config.head == "mixture" else 3) * patch
    published = oracle.MaskDifuser(config, in_channels=3 * patch, out_channels=outputs)
    state = oracle.randomise(published).state_dict()
    params = oracle.as_flax(state, mask_difuser_key_table(config))
    return Restorer(jax.tree.map(jnp.asarray, params), config)


@pytest.fixture(scope="module")
def noise():
    return _restorer(NOISE)


@pytest.fixture(scope="module")
def mixture():
    return _restorer(MIXTURE)


def _pair(height=HEIGHT, width=WIDTH, seed=0):
    rng = np.random.default_rng(seed)
    visible = rng.uniform(0, 1, (height, width, 3)).astype(np.float32)
    return visible, rng.uniform(0, 1, (height, width)).astype(np.float32)


def test_the_released_five_steps_have_the_released_coefficients():
    levels = restoration_levels(5, index_shift=1)
    a, b = (np.asarray(x, np.float64) for x in (levels.signal, levels.next_signal))
    c1 = np.sqrt((1 - a / b) * (1 - b) / (1 - a))
    c2 = np.sqrt(1 - b - c1**2)
    np.testing.assert_allclose(
        np.stack([levels.index, np.sqrt(a), np.sqrt(b), c1, c2], -1),
        [
            [800, 0.0385, 0.1589, 0.95857, 0.23639],
            [600, 0.1589, 0.4382, 0.84846, 0.29683],
            [400, 0.4382, 0.8085, 0.55022, 0.20883],
            [200, 0.8085, 0.9999, 0.01483, 0.00030],
            [0, 0.9999, 0.99995, 0.00738, 0.00674],
        ],
        rtol=0,
        atol=1e-4,
    )


def test_without_the_shift_a_label_has_its_own_level_and_the_chain_ends_clean():
    levels = restoration_levels(4, index_shift=0)
    np.testing.assert_array_equal(levels.index, [750, 500, 250, 0])
    np.testing.assert_allclose(
        levels.signal, linear_signal()[[750, 500, 250, 0]], rtol=1e-6
    )
    np.testing.assert_array_equal(levels.next_signal[:-1], levels.signal[1:])
    assert levels.next_signal[-1] == 1


@pytest.mark.parametrize(("index_shift", "last"), [(0, 999), (1, 998)])
def test_a_single_step_starts_from_noise(index_shift, last):
    assert restoration_levels(1, index_shift=index_shift).index.tolist() == [last]


def test_counts_of_steps_beyond_the_table_are_refused():
    restoration_levels(999, index_shift=1)
    restoration_levels(1000, index_shift=0)
    for num_steps, index_shift in [(0, 0), (1001, 0), (1000, 1)]:
        with pytest.raises(FusionProxyError, match=f"num_steps is {num_steps}; with"):
            restoration_levels(num_steps, index_shift=index_shift)


def _plain_chain(restorer, network, key, *, index_shift):
    """One sample before clipping, by a loop that encodes anew in every step."""
    visible, infrared = _pair()
    config = restorer.config
    height, width = infrared.shape
    padding = [(0, -height % config.stride), (0, -width % config.stride), (0, 0)]
    view_a = np.pad(np.stack([infrared] * 3, -1), padding, "reflect")
    view_b = np.pad(visible, padding, "reflect")
    first_key, key = jax.random.split(key)
    state = np.asarray(jax.random.normal(first_key, view_a.shape), np.float64)
    table = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    for label, following in [(750, 500), (500, 250), (250, 0), (0, None)]:
        a = table[label + index_shift]
        if following is not None:
            b = table[following + index_shift]
        else:
            b = table[0] if index_shift else 1.0
        output = network(
            {"params": restorer.params},
            *(np.float32(2 * view[None] - 1) for view in (view_a, view_b)),
            np.float32(state[None]),
            np.array([label]),
        )
        noise = np.asarray(output[0], np.float64)
        clean = (state - np.sqrt(1 - a) * noise) / np.sqrt(a)
        key, _, noise_key = jax.random.split(key, 3)
        fresh = np.asarray(jax.random.normal(noise_key, state.shape), np.float64)
        c1 = np.sqrt((1 - a / b) * (1 - b) / (1 - a))
        c2 = np.sqrt(max(1 - b - c1**2, 0))
        state = np.sqrt(b) * np.clip(clean, -1, 1) + c1 * fresh + c2 * noise
    return state[:height, :width]


def test_the_chain_equals_a_plain_loop_that_encodes_in_every_step(noise):
    key = jax.random.key(3)
    network = jax.jit(MaskDifuserNet(NOISE).apply)
    for index_shift in (1, 0):
        expected = np.stack(
            [
                _plain_chain(
                    noise,
                    network,
                    jax.random.fold_in(key, number),
                    index_shift=index_shift,
                )
                for number in range(2)
            ]
        )
        ours = draw_samples(noise, *_pair(), key, index_shift=index_shift, **DRAW)
        assert ours.shape == (2, HEIGHT, WIDTH, 3)
        np.testing.assert_allclose(ours, np.clip((expected + 1) / 2, 0, 1), atol=2e-4)
        stretched = draw_samples(
            noise, *_pair(), key, index_shift=index_shift, stretch=True, **DRAW
        )
        low, high = (
            f(expected, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max)
        )
        np.testing.assert_allclose(
            stretched, (expected - low) / (high - low), atol=2e-4
        )


def test_keys_decide_everything_and_the_number_of_samples_nothing(noise):
    def draw(seed, **options):
        return draw_samples(noise, *_pair(), jax.random.key(seed), **DRAW | options)

    two = draw(0)
    np.testing.assert_allclose(draw(0, num_samples=1), two[:1], atol=1e-5)
    for other in (two[1], draw(1)[0]):
        assert float(jnp.abs(two[0] - other).max()) > 1e-3


def test_pairs_can_be_restored_as_a_batch(mixture):
    pairs = [_pair(seed=seed) for seed in range(2)]
    keys = jax.random.split(jax.random.key(5))
    visible, infrared = (jnp.stack(images) for images in zip(*pairs, strict=True))
    together = jax.jit(jax.vmap(lambda *pair: draw_samples(mixture, *pair, **DRAW)))(
        visible, infrared, keys
    )
    for result, pair, key in zip(together, pairs, keys, strict=True):
        alone = draw_samples(mixture, *pair, key, **DRAW)
        np.testing.assert_allclose(result, alone, atol=1e-5)


def test_padding_reflects_as_often_as_it_takes():
    image = np.random.default_rng(0).random((17, 40, 3))
    rows = np.abs((np.arange(64) + 16) % 32 - 16)
    columns = np.abs((np.arange(64) + 39) % 78 - 39)
    np.testing.assert_array_equal(
        pad_to_multiple(jnp.float32(image), 64), np.float32(image)[rows][:, columns]
    )
    assert pad_to_multiple(jnp.zeros((32, 48, 3)), 16).shape == (32, 48, 3)


def test_views_are_infrared_then_visible(mixture):
    # With gates shut for B and open for A, the clean image is the infrared view.
    tail = mixture.params["tail"]["conv"]
    bias = np.zeros((4, 5), np.float32)
    bias[:, 3:] = [50, -50]
    shut = {"kernel": jnp.zeros_like(tail["kernel"]), "bias": jnp.asarray(bias.ravel())}
    params = dict(mixture.params, tail=dict(mixture.params["tail"], conv=shut))
    visible, infrared = _pair()
    samples = draw_samples(
        Restorer(params, MIXTURE),
        visible,
        infrared,
        jax.random.key(0),
        index_shift=0,
        **DRAW,
    )
    expected = np.broadcast_to(infrared[None, ..., None], samples.shape)
    # Away from the ends of the range, which the mixture bends.
    inner = np.abs(2 * expected - 1) < 0.8
    assert inner.mean() > 0.5
    np.testing.assert_allclose(samples[inner], expected[inner], atol=1e-5)
