"""A small student with every parameter drawn at random, and its exported files."""

import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.evaluation.complexity import pair_shapes, parameter_shapes
from fusionproxy_jax.models.variants import build_student

TINY = StudentConfig(stem_width=8, widths=(8, 16), depths=(1, 1))


def random_params(config: StudentConfig = TINY, seed: int = 0):
    """Returns parameters of unit gain; no norm, bias or last layer is trivial."""
    generator = np.random.default_rng(seed)
    module = build_student(config)
    shapes = parameter_shapes(module, *pair_shapes(module.stride, module.stride))

    def draw(path, leaf):
        noise = generator.standard_normal(leaf.shape).astype(np.float32)
        name = path[-1].key
        if name == "kernel":
            is_last = path[-2].key.startswith("to_")
            gain = 0.3 if is_last else 1.0
            return np.float32(gain / np.sqrt(np.prod(leaf.shape[:-1]))) * noise
        return np.float32(1.0 if name == "scale" else 0.0) + np.float32(0.3) * noise

    params = jax.tree_util.tree_map_with_path(draw, shapes)
    return jax.tree.map(jnp.asarray, params)


def noise_pair(batch_size: int, height: int, width: int, seed: int = 0):
    """Returns uint8 NHWC images without any relation."""
    generator = np.random.default_rng(seed)
    return tuple(
        generator.integers(0, 256, (batch_size, height, width, channels), np.uint8)
        for channels in (3, 1)
    )


@functools.cache
def _kept_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@functools.cache
def exported() -> Path:
    """Returns a folder with tiny.safetensors, tiny.onnx, tiny_camera.onnx."""
    from fusionproxy_jax.onnx_export import export_student

    folder = Path(_kept_folder().name)
    export_student(random_params(), TINY, folder, "tiny", {"step": 7})
    return folder
