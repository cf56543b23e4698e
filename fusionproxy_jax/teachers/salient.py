"""Band-wise rectification: our deviation from DDFM, for teaching more than a blend.

EM on pixels ends between the sources, so every teacher built on it teaches an average.
Here estimate and sources are split into Laplacian bands and each band is rectified on
its own, by one EM step as in `balanced` mode but with prior odds on what to keep:

- Detail bands choose between infrared I and visible V by local energy e, the blurred
  absolute coefficients: s = e_I^p / (e_I^p + e_V^p). A share of the weaker source is
  added back and the band may be amplified.
- The base chooses between two readings of heat, with `contrast_share`: the brighter
  source, which fills darkness, and visible plus thermal contrast I - mean(I), which
  keeps a warm body apart from a bright background and darkens what is cold.
- The EM step turns odds s into q = s C / (s C + (1 - s) D), where C and D say how close
  the diffusion estimate already is to either; limited to a ratio of three.

Selection alone would make all samples equal and leave Eqs. 5-8 without variance. So
each sample adds a smooth random field to the log-odds of every band: logit(s) + k z.
The sigmoid makes it fade where the choice is clear, and k grows with what is at stake,
the local distance between the sources. Last, a sample takes the usual choice, without
its field, where the sources agree: samples differ where the sources do.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.config import SalientConfig
from fusionproxy_jax.diffusion.ddim import standard_normal
from fusionproxy_jax.teachers import pyramid
from fusionproxy_jax.teachers.em import closeness, next_scale

# Blur of the energies, in pixels of the band, and of the random field and the stake, in
# pixels of the image.
_ENERGY_SIGMA_PX = 1.5
_FIELD_SIGMA_PX = 12.0
# Blur, in px, and distance in [-1, 1] from which on a place may differ between samples.
_OPEN_SIGMA_PX, _OPEN_DISTANCE = 1.5, 0.4
# Keeps the odds finite on flat images; half a grey level.
_SMALLEST_ENERGY = 2e-3
# Luminance beyond these, in [-1, 1], is bent towards the ends of the range; nights
# live at the dark end, so it is bent later.
_BRIGHT_KNEE, _DARK_KNEE = 0.75, 0.97
# Largest ratio of the closeness weights, as in `balanced` mode.
_MAX_RATIO = 3.0


class SalientState(NamedTuple):
    """Carried along the chain, one entry per sample in every array."""

    # Log-odds of the first candidate of each band, [n, h_k, w_k]; drawn once per chain.
    log_odds: tuple[jax.Array, ...]
    # EM scale of each band, [n].
    scales: tuple[jax.Array, ...]


class _Candidates(NamedTuple):
    """What one band chooses between, [1, h_k, w_k] each."""

    first: jax.Array
    second: jax.Array
    log_odds: jax.Array
    spread: jax.Array


def make_salient_rectifier(
    infrared: jax.Array,
    visible: jax.Array,
    keys: jax.Array,
    *,
    config: SalientConfig,
):
    """Returns (rectify, first state) for samples with these keys.

    Args:
      infrared: luminance [h, w] in [-1, 1], sides multiples of 2**num_detail_bands.
      visible: luminance [h, w] in [-1, 1].
      keys: one key per sample, for the random fields.
      config: odds, shares and spread.
    """
    candidates = _candidates(infrared[None], visible[None], config)
    log_odds = _draw_log_odds(candidates, keys, config)
    open_ = _how_open(infrared, visible)
    num_samples = keys.shape[0]
    state = SalientState(log_odds, tuple(jnp.ones(num_samples) for _ in candidates))

    def rectify(fused, state, keys):
        del keys
        drawn, usual, scales = [], [], []
        for level, band in enumerate(pyramid.split(fused, config.num_detail_bands)):
            first, second, odds, _ = candidates[level]
            preference, scale = _closer(band, first, second, state.scales[level])
            for bands, log_odds in ((drawn, state.log_odds[level]), (usual, odds)):
                share = jax.nn.sigmoid(log_odds + preference)
                bands.append(_taken(first, second, share, level, config))
            scales.append(scale)
        fused = _merge(drawn, usual, open_)
        return fused, SalientState(state.log_odds, tuple(scales))

    return rectify, state


def draw_selection(
    infrared: jax.Array, visible: jax.Array, keys: jax.Array, *, config: SalientConfig
) -> jax.Array:
    """Returns the choice [n, h, w] by the odds alone, without a diffusion estimate.

    What the rectification pulls towards; also what compact Mask-DiFuser is trained to
    sample. Arguments are those of `make_salient_rectifier`.
    """
    candidates = _candidates(infrared[None], visible[None], config)
    drawn, usual = (
        [
            _taken(band.first, band.second, jax.nn.sigmoid(odds), level, config)
            for level, (band, odds) in enumerate(zip(candidates, log_odds, strict=True))
        ]
        for log_odds in (
            _draw_log_odds(candidates, keys, config),
            [band.log_odds for band in candidates],
        )
    )
    return _merge(drawn, usual, _how_open(infrared, visible))


def _how_open(infrared: jax.Array, visible: jax.Array) -> jax.Array:
    """Returns 0 where the sources agree, 1 where they are 0.2 of the range apart.

    At full resolution: the fields are smooth, and bands spread what they change.
    """
    apart = _blur(jnp.abs(infrared - visible)[None], _OPEN_SIGMA_PX)
    return jnp.minimum(apart / _OPEN_DISTANCE, 1.0)


def _merge(
    drawn: list[jax.Array], usual: list[jax.Array], open_: jax.Array
) -> jax.Array:
    """Returns the images of drawn bands, or of the usual ones where nothing is open."""
    settled = pyramid.merge(usual)
    return _within_range(settled + open_ * (pyramid.merge(drawn) - settled))


def _within_range(images: jax.Array) -> jax.Array:
    """Returns images bent to stay inside (-1, 1), untouched in the inner part.

    Heat added to a bright scene, and amplified detail, leave the range; clipping would
    wipe out what they show.
    """
    above = jnp.maximum(images - _BRIGHT_KNEE, 0.0)
    below = jnp.maximum(-images - _DARK_KNEE, 0.0)
    return (
        jnp.clip(images, -_DARK_KNEE, _BRIGHT_KNEE)
        + (1.0 - _BRIGHT_KNEE) * jnp.tanh(above / (1.0 - _BRIGHT_KNEE))
        - (1.0 - _DARK_KNEE) * jnp.tanh(below / (1.0 - _DARK_KNEE))
    )


def _draw_log_odds(
    candidates: list[_Candidates], keys: jax.Array, config: SalientConfig
) -> tuple[jax.Array, ...]:
    """Returns each band's log-odds [n, h_k, w_k] with a random field per sample."""
    return tuple(
        band.log_odds
        + band.spread
        * _smooth_field(
            jax.vmap(lambda key, level=level: jax.random.fold_in(key, level))(keys),
            band.first.shape[1:],
            sigma_px=_FIELD_SIGMA_PX / 2 ** min(level, config.num_detail_bands),
        )
        for level, band in enumerate(candidates)
    )


def _taken(
    first: jax.Array,
    second: jax.Array,
    share: jax.Array,
    level: int,
    config: SalientConfig,
) -> jax.Array:
    """Returns a band with `share` of its first candidate; details as configured."""
    chosen = second + share * (first - second)
    if level < config.num_detail_bands:
        weaker = first + second - chosen
        chosen = config.detail_gain * (chosen + config.weaker_share * weaker)
    return chosen


def _closer(
    band: jax.Array, first: jax.Array, second: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One EM step: log(C / D), how much closer `first` is; and the next scale."""
    to_first, to_second = closeness(first - band, band - second, scale, scale)
    to_first, to_second = (
        jnp.minimum(to_first, _MAX_RATIO * to_second),
        jnp.minimum(to_second, _MAX_RATIO * to_first),
    )
    scale = (next_scale(to_first, scale) + next_scale(to_second, scale)) / 2.0
    return jnp.log(to_first / to_second), scale


def _candidates(
    infrared: jax.Array, visible: jax.Array, config: SalientConfig
) -> list[_Candidates]:
    """Returns the candidates of every band, finest first, base last."""
    levels = config.num_detail_bands
    infrared_bands = pyramid.split(infrared, levels)
    visible_bands = pyramid.split(visible, levels)
    # Full spread where the sources are half the range apart.
    stake = jnp.minimum(_blur(jnp.abs(infrared - visible), _FIELD_SIGMA_PX / 3), 1.0)
    candidates = []
    for warm, seen in zip(infrared_bands[:-1], visible_bands[:-1], strict=True):
        # Thermal sensors are noisy, and energy cannot tell noise from detail: infrared
        # has to exceed visible by the floor.
        odds = config.detail_power * (
            jnp.log(_blur(jnp.abs(warm), _ENERGY_SIGMA_PX) + _SMALLEST_ENERGY)
            - jnp.log(_blur(jnp.abs(seen), _ENERGY_SIGMA_PX) + config.noise_floor)
        )
        candidates.append(_Candidates(warm, seen, odds, config.detail_spread * stake))
        stake = pyramid.halve(stake)
    brighter, contrast = _base_candidates(infrared_bands[-1], visible_bands[-1], config)
    share = np.clip(config.contrast_share, 1e-3, 1.0 - 1e-3)
    odds = jnp.full_like(brighter, np.log(1.0 - share) - np.log(share))
    candidates.append(_Candidates(brighter, contrast, odds, config.base_spread * stake))
    return candidates


def _base_candidates(
    infrared: jax.Array, visible: jax.Array, config: SalientConfig
) -> tuple[jax.Array, jax.Array]:
    """Returns the brighter source, softly, and visible plus thermal contrast."""
    gap = infrared - visible
    brighter = visible + jax.nn.sigmoid(2.0 * config.base_gain * gap) * gap
    contrast = infrared - jnp.mean(infrared)
    # Of the visible base, in [0, 1]: how little range is left above, how much below.
    brightness = (1.0 + visible) / 2.0
    limited = contrast * jnp.where(
        contrast > 0,
        1.0 - config.warm_headroom * brightness,
        1.0 - config.cold_headroom * (1.0 - brightness),
    )
    return brighter, visible + limited


def _blur(images: jax.Array, sigma_px: float) -> jax.Array:
    """Returns [n, h, w] blurred with a Gaussian, borders repeating the edge."""
    radius = int(np.ceil(3 * sigma_px))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    taps = jnp.asarray(taps / taps.sum(), jnp.float32)
    for axis in (1, 2):
        width = [(0, 0)] * 3
        width[axis] = (radius, radius)
        padded = jnp.pad(images, width, mode="edge")[:, None]
        kernel = taps.reshape((1, 1, -1, 1) if axis == 1 else (1, 1, 1, -1))
        images = jax.lax.conv(padded, kernel, (1, 1), "VALID")[:, 0]
    return images


def _smooth_field(
    keys: jax.Array, shape: tuple[int, ...], *, sigma_px: float
) -> jax.Array:
    """Returns periodic Gaussian fields [n, h, w] of unit variance per key."""
    height, width = shape
    rows = np.fft.fftfreq(height)[:, None]
    columns = np.fft.fftfreq(width)[None]
    gain = np.exp(-2.0 * (np.pi * sigma_px) ** 2 * (rows**2 + columns**2))
    gain /= np.sqrt(np.mean(gain**2))
    half = jnp.asarray(gain[None, :, : width // 2 + 1], jnp.float32)
    noise = standard_normal(keys, shape)
    return jnp.fft.irfft2(half * jnp.fft.rfft2(noise), s=shape)
