"""The DDFM teacher: fused samples of a pair from a rectified diffusion chain.

The prior knows nothing of fusion: it guesses the clean image at every step, and the
rectification (`em`, `salient`) replaces the guess's luminance. A luminance prior's
state is luminance; a colour prior's state is RGB, whose chroma the rectification leaves
to the prior, or replaces by the visible image's.
"""

import functools
import hashlib
import math

import jax
import jax.numpy as jnp

from fusionproxy_jax.config import SalientConfig
from fusionproxy_jax.diffusion.ddim import sample
from fusionproxy_jax.diffusion.gaussian_prior import GaussianPrior
from fusionproxy_jax.diffusion.learned_prior import LearnedPrior
from fusionproxy_jax.diffusion.schedule import noise_levels
from fusionproxy_jax.teachers.colour import from_studio, luma, recolour, to_studio
from fusionproxy_jax.teachers.em import first_state, make_em_rectifier
from fusionproxy_jax.teachers.salient import make_salient_rectifier

# Sides the chain runs at, at least: what the pyramid of `salient` can halve.
_STRIDE = 32

Prior = GaussianPrior | LearnedPrior


def image_key(seed: int, image_id: str, teacher: int = 0) -> jax.Array:
    """Returns the key of an image under one teacher, the same on every machine."""
    digest = hashlib.sha256(image_id.encode()).digest()
    key = jax.random.fold_in(jax.random.key(seed), int.from_bytes(digest[:4], "little"))
    return jax.random.fold_in(key, teacher)


@functools.partial(
    jax.jit,
    static_argnames=(
        "mode",
        "salient",
        "num_samples",
        "num_steps",
        "eta",
        "luma_range",
    ),
)
def draw_luminance(
    prior: Prior,
    visible: jax.Array,
    infrared: jax.Array,
    key: jax.Array,
    *,
    mode: str,
    salient: SalientConfig,
    num_samples: int,
    num_steps: int,
    eta: float,
    luma_range: str,
    chroma: jax.Array | None = None,
) -> jax.Array:
    """Returns fused luminance [n, h, w] of sources [h, w], all in [-1, 1].

    Unclipped; sides are multiples of 32 and of the prior's stride. Sample n depends on
    `key` and n alone, not on how many are drawn with it. `chroma`, RGB minus luminance
    [h, w, 3], replaces that of a colour prior's estimates; None leaves theirs.
    """
    height, width = visible.shape
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(num_samples))
    if mode == "salient":
        field_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        rectify, state = make_salient_rectifier(
            infrared, visible, field_keys, config=salient
        )
    else:
        rectify = make_em_rectifier(infrared, visible, mode=mode)
        state = first_state(num_samples, height, width)
    if luma_range == "studio":
        rectify = _in_studio_range(rectify)
    in_colour = prior.channels == 3
    fused = sample(
        prior.denoiser(height, width),
        _on_luminance(rectify, chroma) if in_colour else rectify,
        state,
        jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys),
        noise_levels(num_steps),
        shape=(height, width, 3) if in_colour else (height, width),
        eta=eta,
    )
    return luma(fused) if in_colour else fused


def _in_studio_range(rectify):
    """Returns the hook as released: the estimate is compared in studio range."""

    def studio(estimate, state, keys):
        estimate, state = rectify(to_studio(estimate), state, keys)
        return from_studio(estimate), state

    return studio


def _on_luminance(rectify, chroma: jax.Array | None):
    """Returns the hook for RGB estimates [n, h, w, 3]: their luminance is replaced.

    Cb and Cr are differences to luminance, so keeping them means moving R, G and B by
    the change of luminance.
    """

    def hook(estimate, state, keys):
        before = luma(estimate)
        after, state = rectify(before, state, keys)
        if chroma is not None:
            return after[..., None] + chroma[None], state
        return estimate + (after - before)[..., None], state

    return hook


def draw_samples(
    prior: Prior,
    visible: jax.Array,
    infrared: jax.Array,
    key: jax.Array,
    *,
    mode: str = "balanced",
    salient: SalientConfig | None = None,
    num_samples: int = 4,
    num_steps: int = 25,
    eta: float = 0.0,
    luma_range: str = "full",
    chroma: str = "prior",
    stretch: bool = False,
) -> jax.Array:
    """Returns RGB samples [n, h, w, 3] in [0, 1] of one pair, of any size.

    Luminance is fused by the chain, chroma is the visible image's. Compiled once per
    padded size.

    Args:
      prior: image statistics behind the chain's denoiser.
      visible: RGB [h, w, 3] in [0, 1].
      infrared: [h, w] in [0, 1].
      key: see `image_key`.
      mode: rectification, see `em` and `salient`.
      salient: knobs of mode `salient`; None takes the defaults.
      num_samples: N of Eq. 4.
      num_steps: diffusion steps.
      eta: 0 keeps DDIM deterministic given the first noise.
      luma_range: `full`, or `studio` as released DDFM.
      chroma: of a colour prior's estimates: `prior` leaves its own, `visible` locks
        it to the visible image's, so that the prior sees natural colours.
      stretch: maps each sample's darkest and brightest luminance to 0 and 1, as
        released; a random gain that has no place in an ensemble.
    """
    height, width = infrared.shape
    visible = jnp.asarray(visible, jnp.float32)
    sources = jnp.concatenate(
        [visible, jnp.asarray(infrared, jnp.float32)[..., None]], axis=-1
    )
    stride = math.lcm(_STRIDE, prior.stride)
    padding = ((0, -height % stride), (0, -width % stride), (0, 0))
    padded = 2.0 * jnp.pad(sources, padding, "reflect") - 1.0
    padded_visible, padded_infrared = luma(padded[..., :3]), padded[..., 3]
    locked = chroma == "visible" and prior.channels == 3
    luminance = draw_luminance(
        prior,
        padded_visible,
        padded_infrared,
        key,
        mode=mode,
        salient=salient or SalientConfig(),
        num_samples=num_samples,
        num_steps=num_steps,
        eta=eta,
        luma_range=luma_range,
        chroma=padded[..., :3] - padded_visible[..., None] if locked else None,
    )
    luminance = (luminance[:, :height, :width] + 1.0) / 2.0
    if stretch:
        low = jnp.min(luminance, axis=(1, 2), keepdims=True)
        high = jnp.max(luminance, axis=(1, 2), keepdims=True)
        luminance = (luminance - low) / jnp.maximum(high - low, 1e-6)
    luminance = jnp.clip(luminance, 0.0, 1.0)
    return recolour(luminance, visible)
