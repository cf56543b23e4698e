"""An ensemble as a method of fusion: whole images in, the mean of its samples out.

What a student is taught, beside students and controls: `ddfm+mask_difuser`, one
teacher, or one in a mode of its own, `ddfm:balanced`.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import get_args, get_type_hints

import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.config import DDFMConfig, TeacherConfig
from fusionproxy_jax.config.teacher import TeacherName
from fusionproxy_jax.diffusion.gaussian_prior import GaussianPrior, fit_gaussian_prior
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.colour import luma
from fusionproxy_jax.teachers.registry import build_teachers
from fusionproxy_jax.teachers.tile_ensemble import teacher_key

# Every size is compiled, and whole images have many: they are brought to a few.
_SIZE_STEP_PX = 128


def parse_ensemble(text: str, config: TeacherConfig) -> TeacherConfig:
    """Returns `config` with the teachers of `text`: NAME or NAME:MODE, joined by +.

    Raises:
      FusionProxyError: an unknown teacher or mode, or two modes.
    """
    names, modes = [], set()
    for part in text.split("+"):
        name, _, mode = part.partition(":")
        names.append(name)
        if mode:
            modes.add(mode)
    known = get_args(TeacherName)
    allowed = get_args(get_type_hints(DDFMConfig)["mode"])
    if not set(names) <= set(known) or not modes <= set(allowed) or len(modes) > 1:
        raise FusionProxyError(
            f"no ensemble {text!r}; give teachers of {', '.join(known)} joined by +, "
            f"and at most one mode of {', '.join(allowed)} as in ddfm:balanced"
        )
    ddfm = config.ddfm
    if modes:
        ddfm = dataclasses.replace(ddfm, mode=modes.pop())
    return dataclasses.replace(config, teachers=tuple(names), ddfm=ddfm)


def fit_prior(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> GaussianPrior:
    """Returns the Gaussian prior of pairs (visible, infrared), 8 bits each."""

    def luminances() -> Iterator[np.ndarray]:
        for visible, infrared in pairs:
            yield np.asarray(luma(visible / np.float32(255)))
            yield infrared / np.float32(255)

    return fit_gaussian_prior(luminances())


def make_ensemble_fuser(
    config: TeacherConfig, gaussian_prior: GaussianPrior
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns (visible uint8 [h, w, 3], infrared uint8 [h, w]) -> fused uint8 RGB.

    Images are reflected to a multiple of 128 px first, so that few sizes are compiled.

    Raises:
      FusionProxyError: weights are missing or do not fit.
    """
    teachers = build_teachers(config, gaussian_prior)

    def fuse(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        height, width = infrared.shape
        padding = [(0, -height % _SIZE_STEP_PX), (0, -width % _SIZE_STEP_PX)]
        # Symmetric, as a reflection may be longer than a small image allows.
        padded = np.pad(visible, [*padding, (0, 0)], "symmetric") / np.float32(255)
        thermal = np.pad(infrared, padding, "symmetric") / np.float32(255)
        # From the pixels, so that an image is fused alike wherever it is met.
        digest = hashlib.sha256(visible.tobytes() + infrared.tobytes()).hexdigest()
        means = []
        for teacher in teachers:
            key = teacher_key(config.seed, digest, teacher.name)
            samples = teacher.draw(
                jnp.asarray(padded)[None],
                jnp.asarray(thermal)[None],
                key[None],
                config.num_samples,
            )
            means.append(jnp.mean(samples[0], axis=0))
        mean = jnp.mean(jnp.stack(means), axis=0)[:height, :width]
        return np.asarray(jnp.round(255.0 * mean)).astype(np.uint8)

    return fuse
