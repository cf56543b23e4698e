"""Int8 forms: static quantisation, calibrated on real pairs.

Weights are int8 with a scale per output channel, maps uint8 with a scale each. Between
the images and the first layers, and behind the last one, arithmetic stays float: it
adds to the visible image what the network found, and would lose the image's own levels.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from fusionproxy_jax.evaluation.extreme_pairs import Pair
from fusionproxy_jax.evaluation.graph_images import to_tensors
from fusionproxy_jax.evaluation.image_graph import ImageGraph, read_image_graph
from fusionproxy_jax.evaluation.runners import RunnerOptions, open_onnxruntime
from fusionproxy_jax.onnx_export.fixed_size import map_names

# Layers worth a conversion of their input.
_LAYERS = frozenset({"Conv", "Gemm"})
# Faster in int8 where the input already is. Conv stands for depthwise ones here.
_FOLLOWERS = frozenset(
    "Add Concat Conv GlobalAveragePool MatMul Relu Reshape Resize".split()
)
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, kw_only=True)
class Int8Options:
    """What stays float32 although it could be int8.

    Attributes:
        float_stems: The layers that read the images. Of one and three channels they
            are slower in int8.
        float_last: The layer that predicts the output. In float32 it costs up to a
            tenth of the time and gives up to 2 dB.
        float_heads: The fusion heads' products with weights of each image, which gives
            about 1 dB.
    """

    float_stems: bool = True
    float_last: bool = False
    float_heads: bool = False


def quantize(
    model: onnx.ModelProto,
    pairs: Sequence[tuple[str, Pair]],
    options: Int8Options = Int8Options(),
) -> onnx.ModelProto:
    """Returns `model` with what `int8_nodes` names in int8, as pairs of Q and DQ nodes.

    Args:
        model: A finished float32 form with free sizes, of either interface.
        pairs: What the ranges of the maps are measured on, with names.
        options: What stays float32.
    """
    prepared = onnx.shape_inference.infer_shapes(model)
    # Says that shapes are there; otherwise a warning is logged.
    add_pre_process_metadata(prepared)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            prepared,
            path,
            _Calibration(model, pairs),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=sorted(_LAYERS | _FOLLOWERS),
            nodes_to_quantize=int8_nodes(model, options),
        )
        quantized = onnx.load(path)
    _read_sizes_of_int8(quantized.graph)
    _restore_identity(quantized, model)
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def int8_nodes(
    model: onnx.ModelProto, options: Int8Options = Int8Options()
) -> list[str]:
    """Returns the names of the nodes to compute in int8, in the graph's order.

    These are the layers over maps, and the nodes that get nothing but their results.
    """
    maps = map_names(model)
    parameters = {tensor.name for tensor in model.graph.initializer}
    image_values = {value.name for value in model.graph.input}
    int8_values: set[str] = set()
    chosen: list[str] = []
    layers: list[str] = []
    for node in model.graph.node:
        read = maps.intersection(node.input)
        is_product = node.op_type in _PRODUCTS
        # Weights of each image are computed, not stored.
        is_head = node.op_type == "MatMul" and not parameters.intersection(node.input)
        if read and not is_product and read <= image_values:
            image_values.update(node.output)
        elif is_product and read & image_values and options.float_stems:
            # Converted once, for all that read it.
            int8_values.update(node.output)
        elif is_head and options.float_heads:
            continue
        elif read and (
            _is_dense(node) or (node.op_type in _FOLLOWERS and read <= int8_values)
        ):
            chosen.append(node.name)
            int8_values.update(node.output)
            if is_product:
                layers.append(node.name)
    if options.float_last and layers:
        chosen.remove(layers[-1])
    return chosen


def _is_dense(node: onnx.NodeProto) -> bool:
    """Says whether a node is a layer, and no depthwise one."""
    groups = {attribute.name: attribute.i for attribute in node.attribute}
    return node.op_type in _LAYERS and groups.get("group", 1) == 1


class _Calibration(CalibrationDataReader):
    """Gives what a form is fed for one pair after the other."""

    def __init__(
        self, model: onnx.ModelProto, pairs: Sequence[tuple[str, Pair]]
    ) -> None:
        self._feeds = _feeds(_image_graph(model), pairs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Returns the next feeds; None behind the last pair."""
        return next(self._feeds, None)


def _feeds(
    graph: ImageGraph, pairs: Sequence[tuple[str, Pair]]
) -> Iterator[dict[str, np.ndarray]]:
    for _, pair in pairs:
        yield to_tensors(graph, *pair)


def _image_graph(model: onnx.ModelProto) -> ImageGraph:
    opened = open_onnxruntime(model.SerializeToString(), RunnerOptions(threads=1))
    return read_image_graph(model.graph.name, opened.inputs, opened.outputs)


def _read_sizes_of_int8(graph: onnx.GraphProto) -> None:
    """Lets sizes be read where maps are still int8, not behind their conversion."""
    sources = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear"
    }
    for node in graph.node:
        if node.op_type == "Shape":
            node.input[0] = sources.get(node.input[0], node.input[0])


def _restore_identity(quantized: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Gives the file back what the quantiser wrote over or added."""
    for field in ("ir_version", "producer_name", "producer_version"):
        setattr(quantized, field, getattr(model, field))
    quantized.graph.name = model.graph.name
    for field in ("metadata_props", "opset_import"):
        repeated = getattr(quantized, field)
        del repeated[:]
        repeated.extend(getattr(model, field))
    # Inferred before there were conversions.
    del quantized.graph.value_info[:]
