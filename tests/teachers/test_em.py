import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.teachers import em

MODES = tuple(em.EM_VARIANTS)
SHAPE = (12, 10)


def _sources():
    first, second, fused = jax.random.uniform(
        jax.random.key(0), (3, *SHAPE), minval=-1, maxval=1
    )
    return first, second, fused


def _without_smoothing(monkeypatch, mode):
    variant = dataclasses.replace(em.EM_VARIANTS[mode], coupling=1e-12)
    monkeypatch.setattr(em, "EM_VARIANTS", {**em.EM_VARIANTS, mode: variant})


def _one_step(mode, infrared, visible, fused, state=None):
    """Rectifies [n, h, w] estimates once, from scales of one."""
    rectify = em.make_em_rectifier(infrared, visible, mode=mode)
    state = state or em.first_state(fused.shape[0], *fused.shape[1:])
    return rectify(fused, state, None)


# Position s of f between b (0) and a (1): the released update maps it to
# 1 - max(s, 1/3), the mirror image of max(s, 1/3) about the middle.
@pytest.mark.parametrize(
    ("before", "after"),
    [(0.1, 2 / 3), (0.3, 2 / 3), (0.5, 0.5), (0.8, 0.2), (1.0, 0.0)],
)
def test_the_released_step_mirrors_one_pixel(monkeypatch, before, after):
    _without_smoothing(monkeypatch, "released")
    visible, infrared = 0.6, -0.4
    fused = infrared + before * (visible - infrared)
    pixel = (jnp.full((1, 1), infrared), jnp.full((1, 1), visible))
    result, _ = _one_step("released", *pixel, jnp.full((1, 1, 1), fused))
    position = (float(result[0, 0, 0]) - infrared) / (visible - infrared)
    assert position == pytest.approx(after, abs=2e-3)


# Without a limit every point between the sources is a fixed point; the ratio of three
# confines `balanced` to the middle half.
@pytest.mark.parametrize("before", [0.0, 0.1, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize(
    ("mode", "low", "high"), [("paper", 0, 1), ("balanced", 0.25, 0.75)]
)
def test_the_other_steps_keep_one_pixel_within_their_limits(
    monkeypatch, mode, low, high, before
):
    _without_smoothing(monkeypatch, mode)
    infrared, visible = 0.6, -0.4
    fused = visible + before * (infrared - visible)
    pixel = (jnp.full((1, 1), infrared), jnp.full((1, 1), visible))
    result, _ = _one_step(mode, *pixel, jnp.full((1, 1, 1), fused))
    position = (float(result[0, 0, 0]) - visible) / (infrared - visible)
    assert position == pytest.approx(np.clip(before, low, high), abs=2e-3)


@pytest.mark.parametrize("mode", MODES)
def test_the_result_lies_between_the_sources(monkeypatch, mode):
    _without_smoothing(monkeypatch, mode)
    infrared, visible, fused = _sources()
    result, _ = _one_step(mode, infrared, visible, fused[None])
    assert bool(jnp.all(result[0] >= jnp.minimum(infrared, visible) - 1e-5))
    assert bool(jnp.all(result[0] <= jnp.maximum(infrared, visible) + 1e-5))


@pytest.mark.parametrize("mode", MODES)
def test_equal_sources_are_returned(monkeypatch, mode):
    # The smoothness term alone would blur them; the data terms have to win without it.
    _without_smoothing(monkeypatch, mode)
    source, _, fused = _sources()
    result, _ = _one_step(mode, source, source, fused[None])
    np.testing.assert_allclose(result[0], source, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_scales_stay_positive_along_a_chain(mode):
    infrared, visible, fused = _sources()
    rectify = em.make_em_rectifier(infrared, visible, mode=mode)
    state, fused = em.first_state(1, *SHAPE), fused[None]
    for _ in range(50):
        fused, state = rectify(fused, state, None)
    assert float(state.scale_a[0]) > 0 and float(state.scale_b[0]) > 0
    assert bool(jnp.isfinite(fused).all())


@pytest.mark.parametrize("mode", MODES)
def test_samples_do_not_share_their_state(mode):
    infrared, visible, fused = _sources()
    estimates = jnp.stack([fused, visible, -fused])
    batch, state = _one_step(mode, infrared, visible, estimates)
    batch, state = _one_step(mode, infrared, visible, batch, state)
    for n in range(3):
        alone, own = _one_step(mode, infrared, visible, estimates[n : n + 1])
        alone, own = _one_step(mode, infrared, visible, alone, own)
        np.testing.assert_allclose(batch[n], alone[0], atol=1e-5)
        np.testing.assert_allclose(state.scale_a[n], own.scale_a[0], rtol=1e-5)


def _released_oracle(visible, infrared, fused, scale_a, scale_b, fx, fy):
    """The released step as written down, with explicit loops where it has indices."""
    a, b, r, half = visible, infrared, 0.001, 0.5
    y, x = a - b, fused - b
    d = np.sqrt(2 / (scale_b * (x**2 + 1e-6)))
    c = np.sqrt(2 / (scale_a * (y - x + 1e-6) ** 2))
    d = np.minimum(d, 2 * c)
    scale_b = np.mean(1 / (d + 1e-10) + scale_b / 2)
    scale_a = np.mean(1 / (c + 1e-10) + scale_a / 2)
    height, width = a.shape
    k1 = np.exp(2j * np.pi * np.arange(width) / width)[None] - 1
    k2 = np.exp(2j * np.pi * np.arange(height) / height)[:, None] - 1
    fft = np.fft.fft2
    top = fft(y - x) + k1.conj() * fft(fx) + k2.conj() * fft(fy)
    h = np.fft.ifft2(top / (1 + abs(k1) ** 2 + abs(k2) ** 2)).real
    share = r / (2 * half + r)
    fx, fy = np.zeros_like(h), np.zeros_like(h)
    for i in range(height):
        for j in range(width):
            fx[i, j] = share * (h[i, j] - (h[i, j + 1] if j + 1 < width else 0))
            fy[i, j] = share * (h[i, j] - (h[i + 1, j] if i + 1 < height else 0))
    x = (2 * c * y + r * (y - h)) / (2 * c + 2 * d + r)
    return a - x, scale_a, scale_b, fx, fy


def test_the_released_steps_match_their_loop():
    infrared, visible, fused = _sources()
    rectify = em.make_em_rectifier(infrared, visible, mode="released")
    state, result = em.first_state(1, *SHAPE), fused[None]
    expected = np.asarray(fused, np.float64)
    oracle = (1.0, 1.0, np.zeros(SHAPE), np.zeros(SHAPE))
    for _ in range(3):
        result, state = rectify(result, state, None)
        expected, *oracle = _released_oracle(
            np.asarray(visible, np.float64),
            np.asarray(infrared, np.float64),
            expected,
            *oracle,
        )
    np.testing.assert_allclose(result[0], expected, atol=2e-4)
    np.testing.assert_allclose(state.scale_a[0], oracle[0], rtol=1e-4)
    np.testing.assert_allclose(state.gradient_x[0], oracle[2], atol=1e-5)
    np.testing.assert_allclose(state.gradient_y[0], oracle[3], atol=1e-5)


def test_the_spectra_are_those_of_the_circular_differences():
    _, _, image = _sources()
    columns, rows = em._difference_spectra(*SHAPE)
    spectrum = np.fft.rfft2(np.asarray(image))
    along_x, along_y = em._circular_differences(image[None])
    np.testing.assert_allclose(
        np.fft.irfft2(columns[0] * spectrum, s=SHAPE), along_x[0], atol=1e-5
    )
    np.testing.assert_allclose(
        np.fft.irfft2(rows[0] * spectrum, s=SHAPE), along_y[0], atol=1e-5
    )
