import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.config import SalientConfig
from fusionproxy_jax.teachers import pyramid
from fusionproxy_jax.teachers.salient import (
    _base_candidates,
    _closer,
    _smooth_field,
    _within_range,
    draw_selection,
    make_salient_rectifier,
)

SHAPE = (32, 48)
KEYS = jax.random.split(jax.random.key(5), 3)


def _sources(seed=0):
    key = jax.random.key(seed)
    return jax.random.uniform(key, (2, *SHAPE), minval=-0.8, maxval=0.8)


def _rectified(infrared, visible, fused, keys=KEYS, **config):
    config = SalientConfig(**({"num_detail_bands": 2} | config))
    rectify, state = make_salient_rectifier(infrared, visible, keys, config=config)
    return rectify(fused, state, None)


def test_odds_of_detail_follow_the_written_energies():
    infrared, visible = _sources()
    _, state = make_salient_rectifier(
        infrared,
        visible,
        KEYS,
        config=SalientConfig(detail_spread=0.0, num_detail_bands=1),
    )
    warm, seen = (
        np.abs(np.asarray(pyramid.split(x[None], 1)[0][0], np.float64))
        for x in (infrared, visible)
    )
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    for y, x in ((0, 0), (9, 17), (31, 47)):
        energies = []
        for band in (warm, seen):
            window = np.pad(band, 5, mode="edge")[y : y + 11, x : x + 11]
            energies.append((window * kernel).sum())
        odds = 5.0 * np.log((energies[0] + 2e-3) / (energies[1] + 8e-3))
        for sample in state.log_odds[0]:
            assert float(sample[y, x]) == pytest.approx(odds, abs=2e-3)


def test_a_band_shares_by_odds_and_by_closeness_to_the_estimate():
    rng = np.random.default_rng(0)
    band, first, second, odds = rng.normal(scale=0.3, size=(4, 2, 3, 5))
    scale = np.array([0.7, 1.3])
    preference, _ = _closer(*map(jnp.float32, (band, first, second, scale)))
    share = jax.nn.sigmoid(jnp.float32(odds) + preference)
    for n, y, x in np.ndindex(2, 3, 5):
        prior = 1 / (1 + np.exp(-odds[n, y, x]))
        c, d = (
            np.sqrt(2 / (scale[n] * ((source[n, y, x] - band[n, y, x]) ** 2 + 1e-6)))
            for source in (first, second)
        )
        c, d = min(c, 3 * d), min(d, 3 * c)
        expected = prior * c / (prior * c + (1 - prior) * d)
        assert float(share[n, y, x]) == pytest.approx(expected, rel=1e-3)


def test_equal_sources_are_kept_but_for_thermal_contrast():
    source, _ = _sources()
    fused, _ = _rectified(
        source,
        source,
        jnp.zeros((3, *SHAPE)),
        weaker_share=0.0,
        detail_gain=1.0,
        contrast_share=0.0,
    )
    np.testing.assert_allclose(fused, jnp.broadcast_to(source, fused.shape), atol=5e-3)


def test_the_base_reads_heat_as_the_brighter_source_and_as_contrast():
    infrared = jnp.asarray([[[0.8, -0.8]]])
    visible = jnp.asarray([[[-0.6, 0.6]]])
    config = SalientConfig(warm_headroom=0.9, cold_headroom=0.4)
    brighter, contrast = _base_candidates(infrared, visible, config)
    np.testing.assert_allclose(brighter, [[[0.8, 0.6]]], atol=2e-3)
    # Brightness of the visible base is 0.2 and 0.8, mean infrared 0.
    warm, cold = 0.8 * (1 - 0.9 * 0.2), -0.8 * (1 - 0.4 * 0.2)
    np.testing.assert_allclose(contrast, [[[-0.6 + warm, 0.6 + cold]]], atol=1e-5)


def test_samples_differ_where_sources_do_and_agree_where_they_agree():
    visible = 0.2 * _sources()[0]
    infrared = visible.at[:, 24:].add(0.8)
    draws = [
        _rectified(infrared, visible, jnp.zeros((3, *SHAPE)), keys)[0]
        for keys in jax.random.split(jax.random.key(0), (6, 3))
    ]
    deviation = jnp.std(jnp.concatenate(draws), axis=0)
    assert float(deviation[:, 34:].mean()) > 5 * float(deviation[:, :10].mean())
    assert float(deviation[:, 34:].mean()) > 0.01


def test_without_spread_samples_with_one_estimate_are_equal():
    infrared, visible = _sources()
    fused, _ = _rectified(
        infrared, visible, jnp.zeros((3, *SHAPE)), detail_spread=0.0, base_spread=0.0
    )
    np.testing.assert_array_equal(fused[0], fused[2])


def test_a_sample_does_not_depend_on_its_batch():
    infrared, visible = _sources()
    estimates = jax.random.normal(jax.random.key(9), (3, *SHAPE))
    batch, state = _rectified(infrared, visible, estimates)
    alone, own = _rectified(infrared, visible, estimates[1:2], KEYS[1:2])
    np.testing.assert_allclose(batch[1], alone[0], atol=1e-5)
    for shared, single in zip(state.scales, own.scales, strict=True):
        np.testing.assert_allclose(shared[1], single[0], rtol=1e-4)


def test_random_fields_are_smooth_and_of_unit_variance():
    keys = jax.random.split(jax.random.key(1), 64)
    field = np.asarray(_smooth_field(keys, (64, 48), sigma_px=6.0))
    assert field.std() == pytest.approx(1.0, abs=0.1)
    # The slope of such a field has deviation 1 / (sqrt(2) sigma) per pixel.
    steps = np.diff(field, axis=2)
    assert steps.std() == pytest.approx(1 / (np.sqrt(2) * 6.0), rel=0.1)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_flat_sources_give_finite_samples(value):
    flat = jnp.full(SHAPE, value)
    fused, _ = _rectified(flat, flat, jnp.zeros((3, *SHAPE)))
    # The ends of the range are bent.
    np.testing.assert_allclose(fused, _within_range(jnp.float32(value)), atol=1e-3)


def test_scales_stay_positive_along_a_chain():
    infrared, visible = _sources()
    rectify, state = make_salient_rectifier(
        infrared, visible, KEYS, config=SalientConfig(num_detail_bands=2)
    )
    fused = jnp.zeros((3, *SHAPE))
    step = jax.jit(lambda fused, state: rectify(fused, state, None))
    for _ in range(20):
        fused, state = step(fused, state)
    assert all(float(scale.min()) > 0 for scale in state.scales)
    assert bool(jnp.isfinite(fused).all())


def test_every_knob_changes_the_result():
    infrared, visible = _sources()
    estimate = jnp.zeros((3, *SHAPE))
    usual, _ = _rectified(infrared, visible, estimate)
    for field in dataclasses.fields(SalientConfig):
        changed = 3 if field.name == "num_detail_bands" else 0.5 * field.default
        other, _ = _rectified(infrared, visible, estimate, **{field.name: changed})
        assert float(jnp.abs(other - usual).max()) > 1e-4, field.name


def test_a_selection_is_what_the_rectification_pulls_towards():
    infrared, visible = _sources()
    config = SalientConfig(num_detail_bands=2)
    chosen = draw_selection(infrared, visible, KEYS, config=config)
    # An estimate half way between the candidates of every band is as close to either,
    # so the odds alone decide; nearly, as bands of a sum are not the bands summed.
    half_way = _half_way(infrared, visible, config)
    pulled, _ = _rectified(infrared, visible, half_way)
    elsewhere, _ = _rectified(
        infrared, visible, jnp.broadcast_to(visible, half_way.shape)
    )
    error = jnp.mean(jnp.abs(pulled - chosen))
    assert float(error) < 5e-3
    assert float(jnp.mean(jnp.abs(elsewhere - chosen))) > 4 * float(error)


def _half_way(infrared, visible, config):
    from fusionproxy_jax.teachers.salient import _candidates

    bands = _candidates(infrared[None], visible[None], config)
    return pyramid.merge([(band.first + band.second) / 2 for band in bands]) * jnp.ones(
        (len(KEYS), 1, 1)
    )


def test_selections_follow_their_keys_and_differ_where_sources_do():
    infrared, visible = _sources()
    visible = visible.at[:, :24].set(infrared[:, :24])
    config = SalientConfig(num_detail_bands=2)
    keys = jax.random.split(jax.random.key(1), 16)
    chosen = draw_selection(infrared, visible, keys, config=config)
    np.testing.assert_allclose(
        draw_selection(infrared, visible, keys[3:5], config=config),
        chosen[3:5],
        atol=1e-5,
    )
    spread = jnp.std(chosen, axis=0)
    # Away from the seam, which bands reach across.
    assert float(spread[:, 40:].mean()) > 8 * float(spread[:, :16].mean())


def test_the_range_is_kept_by_bending_not_by_clipping():
    ramp = jnp.linspace(-2, 2, 401)
    bent = _within_range(ramp)
    assert bool(jnp.all(jnp.diff(bent) >= 0)) and float(jnp.abs(bent).max()) <= 1
    inner = (ramp > -0.97) & (ramp < 0.75)
    np.testing.assert_array_equal(bent[inner], ramp[inner])
    # What clipping would make one level stays apart.
    assert float(_within_range(jnp.float32(1.2)) - _within_range(jnp.float32(1.0))) > 0
    slope = jax.vmap(jax.grad(_within_range))(jnp.array([0.7499, 0.7501]))
    np.testing.assert_allclose(slope, 1.0, atol=1e-3)
