"""From a Flax student and its parameters to checked ONNX files of opset 17."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax2onnx
import onnx
import onnx_ir as ir

from fusionproxy_jax import __version__
from fusionproxy_jax.checkpoints.weights import save_weights
from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.onnx_export.graph import tidy
from fusionproxy_jax.onnx_export.opset import lower_opset
from fusionproxy_jax.onnx_export.primitives import depth_to_space, upsample
from fusionproxy_jax.onnx_export.simplify import simplify
from fusionproxy_jax.onnx_export.verify import check_differences, max_differences
from fusionproxy_jax.onnx_export.wrapper import add_image_interface
from fusionproxy_jax.runtime.files import atomic_path

PyTree = Any


def core_graph(config: StudentConfig, params: PyTree) -> onnx.ModelProto:
    """Returns the network alone: float NCHW, sizes free multiples of its stride."""
    module = build_student(
        config, grouped=True, upsample=upsample, depth_to_space=depth_to_space
    )
    sizes = [f"{module.stride}*{letter}" for letter in "hw"]
    # The exporter's own rules add biases without spelling out their axes.
    with jax.numpy_rank_promotion("allow"):
        core = jax2onnx.to_onnx(
            lambda *pair: module.apply({"params": params}, *pair),
            [("B", *sizes, 3), ("B", *sizes, 1)],
            # The last opset before types widened; it still has Gelu as one node.
            opset=20,
            # LayerNormalization as one node instead of eight.
            normalization_mode="prefer_native",
            inputs_as_nchw=[0, 1],
            outputs_as_nchw=[0],
            input_names=["visible", "infrared"],
            output_names=["fused"],
        )
    model = ir.from_proto(core)
    lower_opset(model)
    simplify(model)
    return ir.to_proto(tidy(model))


def _finished(
    core: onnx.ModelProto, *, stride: int, camera: bool, properties: Mapping[str, str]
) -> onnx.ModelProto:
    model = ir.from_proto(core)
    add_image_interface(model, stride=stride, camera=camera)
    model = tidy(model)
    model.graph.name = properties["name"]
    model.producer_name = "fusionproxy-jax"
    model.producer_version = __version__
    model.metadata_props.update(properties)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def student_models(
    params: PyTree, config: StudentConfig, name: str, metadata: Mapping[str, Any]
) -> dict[str, onnx.ModelProto]:
    """Returns the two forms of a student by file name.

    `<name>.onnx` takes and returns float32 NCHW in [0, 1], `<name>_camera.onnx` uint8
    NHWC; any batch and size.

    Args:
        params: Parameters as Flax nests them.
        config: The network they belong to.
        name: Base of the file names.
        metadata: JSON values stored in the files under `training`.
    """
    core = core_graph(config, params)
    stride = build_student(config).stride
    common = {
        "name": name,
        "version": __version__,
        "colour_order": "RGB",
        "licence": "Apache-2.0",
        "precision": "float32",
        "training": json.dumps(dict(metadata), sort_keys=True),
    }
    forms = {
        f"{name}.onnx": (False, {"range": "float32 [0, 1]", "layout": "NCHW"}),
        f"{name}_camera.onnx": (True, {"range": "uint8 [0, 255]", "layout": "NHWC"}),
    }
    return {
        file: _finished(core, stride=stride, camera=camera, properties=common | form)
        for file, (camera, form) in forms.items()
    }


def checked_models(
    params: PyTree, config: StudentConfig, name: str, metadata: Mapping[str, Any]
) -> tuple[dict[str, onnx.ModelProto], dict[str, float]]:
    """Returns `student_models`, and their largest difference from Flax in [0, 1] units.

    Raises:
        FusionProxyError: The graphs disagree with Flax.
    """
    # Parameters of a file are NumPy arrays, which the network does not take.
    arrays = jax.tree.map(jnp.asarray, params)
    models = student_models(arrays, config, name, metadata)
    differences = max_differences(models, arrays, config)
    check_differences(differences)
    return models, differences


def write_student(
    models: Mapping[str, onnx.ModelProto],
    params: PyTree,
    config: StudentConfig,
    directory: Path,
    name: str,
    metadata: Mapping[str, Any],
) -> None:
    """Writes ONNX files by their names, and `<name>.safetensors` with `config`."""
    for file, model in models.items():
        with atomic_path(directory / file) as temporary:
            temporary.write_bytes(model.SerializeToString())
    save_weights(
        directory / f"{name}.safetensors",
        params,
        {
            "name": name,
            "version": __version__,
            "licence": "Apache-2.0",
            "student": dataclasses.asdict(config),
            "training": dict(metadata),
        },
    )


def export_student(
    params: PyTree,
    config: StudentConfig,
    directory: Path,
    name: str,
    metadata: Mapping[str, Any],
) -> dict[str, float]:
    """Writes `<name>.safetensors`, `<name>.onnx` and `<name>_camera.onnx`.

    Nothing is written unless both ONNX files compute what the Flax network computes.
    `metadata` (JSON values) goes into all three files, the configuration into the
    weights.

    Returns:
        The largest difference from Flax by ONNX file name, in [0, 1] units.

    Raises:
        FusionProxyError: The graphs disagree with Flax, or a file cannot be written.
    """
    models, differences = checked_models(params, config, name, metadata)
    write_student(models, params, config, directory, name, metadata)
    return differences
