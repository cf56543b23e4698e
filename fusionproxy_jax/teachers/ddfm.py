"""The DDFM teacher: fused samples of a pair from a rectified diffusion chain."""

import functools
import hashlib

import jax
import jax.numpy as jnp

from fusionproxy_jax.config import SalientConfig
from fusionproxy_jax.diffusion.ddim import sample
from fusionproxy_jax.diffusion.gaussian_prior import GaussianPrior, make_denoiser
from fusionproxy_jax.diffusion.schedule import noise_levels
from fusionproxy_jax.teachers.colour import from_studio, luma, recolour, to_studio
from fusionproxy_jax.teachers.em import first_state, make_em_rectifier
from fusionproxy_jax.teachers.salient import make_salient_rectifier

# Sides the chain runs at: five halvings, also what trained priors need.
_STRIDE = 32


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
    prior: GaussianPrior,
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
) -> jax.Array:
    """Returns fused luminance [n, h, w] of sources [h, w], all in [-1, 1].

    Unclipped; sides are multiples of 32. Sample n depends on `key` and n alone, not on
    how many are drawn with it.
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
    hook = rectify if luma_range == "full" else _in_studio_range(rectify)
    return sample(
        make_denoiser(prior, height=height, width=width),
        hook,
        state,
        jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys),
        noise_levels(num_steps),
        shape=(height, width),
        eta=eta,
    )


def _in_studio_range(rectify):
    """Returns the hook as released: the estimate is compared in studio range."""

    def studio(estimate, state, keys):
        estimate, state = rectify(to_studio(estimate), state, keys)
        return from_studio(estimate), state

    return studio


def draw_samples(
    prior: GaussianPrior,
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
) -> jax.Array:
    """Returns RGB samples [n, h, w, 3] in [0, 1] of one pair, of any size.

    Luminance is fused by the chain, chroma is the visible image's; no stretching, which
    would add a random gain per sample. Compiled once per padded size.

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
    """
    height, width = infrared.shape
    visible = jnp.asarray(visible, jnp.float32)
    sources = jnp.stack([luma(visible), jnp.asarray(infrared, jnp.float32)])
    padding = ((0, 0), (0, -height % _STRIDE), (0, -width % _STRIDE))
    padded_visible, padded_infrared = 2.0 * jnp.pad(sources, padding, "reflect") - 1.0
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
    )
    luminance = jnp.clip((luminance[:, :height, :width] + 1.0) / 2.0, 0.0, 1.0)
    return recolour(luminance, visible)
