"""Two small students in their float32 forms, and pairs to calibrate on."""

import functools

import jax
import numpy as np
import onnx
from PIL import Image
from tiny_student import random_params

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.input_pipeline.synthetic import SyntheticPairs

CONVOLUTIONAL = StudentConfig(
    encoder="ultra_light",
    stem_width=8,
    widths=(8, 16),
    depths=(1, 1),
    kernel_size=3,
    normalization="affine",
    activation="relu",
    output="luma",
)
# With layer normalisation and global response normalisation; its finest map is 270 x
# 480 in full HD.
RESPONDING = StudentConfig(
    stem_stride=4, stem_width=8, widths=(8,), depths=(1,), expansion=2
)


@functools.cache
def params():
    """Returns parameters of the first."""
    return random_params(CONVOLUTIONAL)


@functools.cache
def float32_models() -> dict[str, onnx.ModelProto]:
    """Returns light.onnx, loud.onnx and their camera twins; not to be changed.

    In `loud`, the response norms see activations whose root mean square is over 4.
    """
    from fusionproxy_jax.onnx_export.export import student_models

    def amplified(path, leaf):
        return 8 * leaf if path[-2].key == "pwconv1" else leaf

    loud = jax.tree_util.tree_map_with_path(amplified, random_params(RESPONDING))
    return {
        **student_models(params(), CONVOLUTIONAL, "light", {"step": 7}),
        **student_models(loud, RESPONDING, "loud", {}),
    }


@functools.cache
def camera_pairs(num_pairs: int = 4, height: int = 64, width: int = 96):
    """Returns named synthetic pairs, visible uint8 [h, w, 3] and infrared uint8."""
    source = SyntheticPairs(num_pairs, height=height, width=width)
    return [
        (
            pair["id"],
            (pair["visible"], np.rint(255 * pair["infrared"]).astype(np.uint8)),
        )
        for pair in map(source.__getitem__, range(num_pairs))
    ]


def write_pairs(folder, num_pairs: int = 4, height: int = 64, width: int = 96):
    """Writes such pairs as a data source; returns `folder`."""
    for index, (_, images) in enumerate(camera_pairs(num_pairs, height, width)):
        for name, image in zip(("visible", "infrared"), images, strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / name / f"{index}.png")
    return folder


def properties(model: onnx.ModelProto) -> dict[str, str]:
    """Returns the metadata of a file."""
    return {entry.key: entry.value for entry in model.metadata_props}


def interface(model: onnx.ModelProto) -> list[tuple]:
    """Returns name, element type and axes of every input and output."""
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    ]
