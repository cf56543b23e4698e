"""The teachers an ensemble may name, behind one interface: pairs in, samples out."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.diffusion.gaussian_prior import GaussianPrior
from fusionproxy_jax.teachers import ddfm
from fusionproxy_jax.teachers.colour import luma, recolour
from fusionproxy_jax.teachers.mask_difuser.sampling import Restorer, draw_samples
from fusionproxy_jax.teachers.pretrained import load_prior, load_restorer


class Teacher(NamedTuple):
    """One teacher of an ensemble.

    Attributes:
      name: as in `TeacherConfig.teachers`.
      fingerprint: changes with its weights; empty where there are none.
      draw: (visible [b, h, w, 3], infrared [b, h, w], keys [b], num_samples) ->
        samples [b, n, h, w, 3]; all images in [0, 1]. Compiled once per shape; an
        image's samples follow from its own key.
    """

    name: str
    fingerprint: str
    draw: Callable[[jax.Array, jax.Array, jax.Array, int], jax.Array]


def build_teachers(
    config: TeacherConfig, gaussian_prior: GaussianPrior
) -> tuple[Teacher, ...]:
    """Returns the teachers of `config`, weights loaded.

    Args:
      config: names and settings.
      gaussian_prior: what teacher `gaussian` samples with.

    Raises:
      FusionProxyError: weights are missing or do not fit.
    """
    builders = {
        "ddfm": lambda: _learned_ddfm(config),
        "mask_difuser": lambda: _mask_difuser(config),
        "gaussian": lambda: prior_teacher("gaussian", "", gaussian_prior, config),
        "average": lambda: Teacher("average", "", _average),
    }
    return tuple(builders[name]() for name in config.teachers)


def _learned_ddfm(config: TeacherConfig) -> Teacher:
    prior, fingerprint = load_prior(config.ddfm.weights, dtype=config.compute_dtype)
    return prior_teacher("ddfm", fingerprint, prior, config)


def _mask_difuser(config: TeacherConfig) -> Teacher:
    restorer, fingerprint = load_restorer(
        config.mask_difuser.weights, dtype=config.compute_dtype
    )
    return restorer_teacher(fingerprint, restorer, config)


def prior_teacher(
    name: str, fingerprint: str, prior: ddfm.Prior, config: TeacherConfig
) -> Teacher:
    """Returns DDFM with a prior, under the name an ensemble gives it."""
    settings = config.ddfm

    @functools.partial(jax.jit, static_argnums=4)
    def draw(prior, visible, infrared, keys, num_samples):
        def one(visible, infrared, key):
            return ddfm.draw_samples(
                prior,
                visible,
                infrared,
                key,
                mode=settings.mode,
                salient=config.salient,
                num_samples=num_samples,
                num_steps=settings.num_steps,
                eta=settings.eta,
                luma_range=settings.luma,
                chroma=settings.chroma,
                stretch=settings.stretch,
            )

        return jax.vmap(one)(visible, infrared, keys)

    return Teacher(name, fingerprint, functools.partial(draw, prior))


def restorer_teacher(
    fingerprint: str, restorer: Restorer, config: TeacherConfig
) -> Teacher:
    """Returns Mask-DiFuser with a network."""
    settings = config.mask_difuser

    @functools.partial(jax.jit, static_argnums=4)
    def draw(restorer, visible, infrared, keys, num_samples):
        def one(visible, infrared, key):
            return draw_samples(
                restorer,
                visible,
                infrared,
                key,
                num_samples=num_samples,
                num_steps=settings.num_steps,
                eta=settings.eta,
                index_shift=settings.index_shift,
                stretch=settings.stretch,
            )

        return jax.vmap(one)(visible, infrared, keys)

    return Teacher("mask_difuser", fingerprint, functools.partial(draw, restorer))


@functools.partial(jax.jit, static_argnums=3)
def _average(visible, infrared, keys, num_samples):
    """Returns the plain average `num_samples` times: a teacher without opinion."""
    del keys
    mean = jax.vmap(recolour)((luma(visible) + infrared) / 2.0, visible)
    return jnp.broadcast_to(
        mean[:, None], (mean.shape[0], num_samples, *mean.shape[1:])
    )
