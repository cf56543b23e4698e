"""What drawing a teacher's samples costs, part by part.

A sample is steps of a network (or of the Gaussian prior's filter), each followed by a
rectification, and encoders that run once per image. The parts are timed on their own
and the whole as `fusionproxy teach` runs it.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.diffusion.gaussian_prior import GaussianPrior, fit_gaussian_prior
from fusionproxy_jax.evaluation.complexity import multiply_adds
from fusionproxy_jax.evaluation.latency import measure
from fusionproxy_jax.teachers.ddfm import Prior
from fusionproxy_jax.teachers.em import first_state, make_em_rectifier
from fusionproxy_jax.teachers.pretrained import load_prior, load_restorer
from fusionproxy_jax.teachers.registry import build_teachers
from fusionproxy_jax.teachers.salient import make_salient_rectifier


@dataclass(frozen=True)
class PartCost:
    """One part of a teacher, for all samples of one image.

    Attributes:
        teacher: Name of the teacher.
        part: What was timed.
        calls: How often a sample needs it, or the image where it is an encoder.
        p50_ms: Milliseconds of one call at the median.
        multiply_adds: Of one call; 0 where there is no product to count.
        temporary_bytes: Working memory of the compiled call.
        compile_seconds: Time to compile it.
    """

    teacher: str
    part: str
    calls: int
    p50_ms: float
    multiply_adds: int
    temporary_bytes: int
    compile_seconds: float


def measure_teachers(
    config: TeacherConfig, *, height: int, width: int, num_images: int, rounds: int
) -> list[PartCost]:
    """Returns the cost of every part of every teacher of `config`, timed in turns.

    Args:
        config: Teachers and their settings.
        height: Of the images, a multiple of every network's stride.
        width: As `height`.
        num_images: Images drawn at once in the part `samples of N images`.
        rounds: Timed calls of each part.

    Raises:
        FusionProxyError: Weights are missing or do not fit.
    """
    gaussian = _any_prior(height, width)
    parts: dict[tuple[str, str, int], tuple[Callable, tuple]] = {}
    for name in config.teachers:
        for part, calls, function, inputs in _parts(
            name, config, gaussian, height, width
        ):
            parts[name, part, calls] = function, inputs
        parts[name, f"all samples of {num_images} image(s)", 1] = _whole(
            name, config, gaussian, height, width, num_images
        )
    compiled, costs = {}, {}
    for key, (function, inputs) in parts.items():
        start = time.perf_counter()
        compiled[key] = jax.jit(function).lower(*inputs).compile()
        memory = compiled[key].memory_analysis()
        costs[key] = (
            multiply_adds(function, *inputs),
            memory.temp_size_in_bytes if memory is not None else 0,
            time.perf_counter() - start,
        )

    def call(key):
        return lambda: jax.block_until_ready(compiled[key](*parts[key][1]))

    labels = {" ".join(map(str, key)): key for key in parts}
    timed = measure(
        {label: call(key) for label, key in labels.items()},
        num_warmup=1,
        num_rounds=rounds,
    )
    return [
        PartCost(*key, timed[label].p50_ms, *costs[key])
        for label, key in labels.items()
    ]


def device_peak_gflops(*, size: int = 2048, rounds: int = 5) -> float:
    """Returns the best float32 rate of a square matrix product on JAX's device."""
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    timed = measure(
        {"product": lambda: jax.block_until_ready(product(matrix))},
        num_warmup=2,
        num_rounds=rounds,
    )["product"]
    return 2.0 * size**3 / timed.min_ms / 1e6


def _any_prior(height: int, width: int) -> GaussianPrior:
    """Returns a Gaussian prior; of what does not matter for its cost."""
    noise = jax.random.uniform(jax.random.key(0), (2, height, width))
    return fit_gaussian_prior([jax.device_get(image) for image in noise])


def _parts(
    name: str, config: TeacherConfig, gaussian: GaussianPrior, height: int, width: int
) -> list[tuple[str, int, Callable, tuple]]:
    """Returns (part, calls, function, inputs) of a teacher's inner parts."""
    samples = config.num_samples
    if name == "average":
        return []
    index, signal = jnp.int32(500), jnp.float32(0.5)
    if name == "mask_difuser":
        restorer, _ = load_restorer(
            config.mask_difuser.weights, dtype=config.compute_dtype
        )
        view = jnp.zeros((1, height, width, 3))
        encoded = jax.tree.map(
            lambda leaf: jnp.repeat(leaf, samples, axis=0),
            jax.jit(type(restorer).encode)(restorer, view, view),
        )
        return [
            (
                "encoders, once per image",
                1,
                type(restorer).encode,
                (restorer, view, view),
            ),
            (
                f"network step of {samples} samples",
                config.mask_difuser.num_steps,
                type(restorer).denoise,
                (
                    restorer,
                    jnp.zeros((samples, height, width, 3)),
                    jnp.full(samples, index),
                    encoded,
                ),
            ),
        ]
    prior: Prior = gaussian
    if name == "ddfm":
        prior, _ = load_prior(config.ddfm.weights, dtype=config.compute_dtype)
    shape = (height, width) if prior.channels == 1 else (height, width, prior.channels)
    source = jnp.linspace(-1.0, 1.0, height * width).reshape(height, width)
    keys = jax.random.split(jax.random.key(0), samples)
    if config.ddfm.mode == "salient":
        rectify, state = make_salient_rectifier(
            source, -source, keys, config=config.salient
        )
    else:
        rectify = make_em_rectifier(source, -source, mode=config.ddfm.mode)
        state = first_state(samples, height, width)
    return [
        (
            f"prior step of {samples} samples",
            config.ddfm.num_steps,
            lambda prior, noisy: prior.denoiser(height, width)(noisy, index, signal),
            (prior, jnp.zeros((samples, *shape))),
        ),
        (
            f"rectification ({config.ddfm.mode}) of {samples} samples",
            config.ddfm.num_steps,
            lambda fused, state: rectify(fused, state, keys),
            (jnp.zeros((samples, height, width)), state),
        ),
    ]


def _whole(
    name: str,
    config: TeacherConfig,
    gaussian: GaussianPrior,
    height: int,
    width: int,
    num_images: int,
) -> tuple[Callable, tuple]:
    """Returns a call that draws all samples of `num_images` images, and its inputs."""
    (teacher,) = build_teachers(dataclasses.replace(config, teachers=(name,)), gaussian)
    visible = jnp.full((num_images, height, width, 3), 0.4)
    infrared = jnp.full((num_images, height, width), 0.6)
    keys = jax.random.split(jax.random.key(0), num_images)
    return (
        lambda *pair: teacher.draw(*pair, config.num_samples),
        (visible, infrared, keys),
    )
