"""Whether a float16 form stays inside float16, asked of its float32 twin.

ONNX Runtime computes float16 graphs in float32 on a CPU, so that what would overflow on
an accelerator looks right there. The twin tells how large every value gets that the
float16 file stores.
"""

from collections.abc import Iterable

import onnx
from onnx import helper

from fusionproxy_jax.evaluation.extreme_pairs import Pair
from fusionproxy_jax.evaluation.graph_images import to_tensors
from fusionproxy_jax.evaluation.image_graph import read_image_graph
from fusionproxy_jax.evaluation.runners import RunnerOptions, open_onnxruntime
from fusionproxy_jax.runtime.cores import num_physical_cores


def stored_values(model: onnx.ModelProto, half: onnx.ModelProto) -> list[str]:
    """Returns the names of the values of `model` that `half` stores as float16."""
    inferred = onnx.shape_inference.infer_shapes(half, check_type=True)
    stored = {
        value.name
        for value in inferred.graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    }
    return [name for node in model.graph.node for name in node.output if name in stored]


def largest_stored(
    model: onnx.ModelProto, half: onnx.ModelProto, pairs: Iterable[Pair]
) -> tuple[float, str]:
    """Returns the largest magnitude that `half` has to store, and the value's name.

    Args:
        model: The float32 form.
        half: What `half_precision` made of it.
        pairs: What is fused to find out.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = stored_values(model, half)
    outputs = [f"peak_{index}" for index in range(len(names))]
    for name, output in zip(names, outputs, strict=True):
        magnitude = f"{output}_magnitude"
        probe.graph.node.append(helper.make_node("Abs", [name], [magnitude]))
        probe.graph.node.append(
            helper.make_node("ReduceMax", [magnitude], [output], keepdims=0)
        )
        probe.graph.output.append(
            helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [])
        )
    opened = open_onnxruntime(
        probe.SerializeToString(), RunnerOptions(threads=num_physical_cores())
    )
    graph = read_image_graph("the float32 form", opened.inputs, opened.outputs)
    peaks = [
        (float(peak), name)
        for pair in pairs
        for peak, name in zip(
            opened.run(to_tensors(graph, *pair), outputs), names, strict=True
        )
    ]
    # NaN is no smaller than anything, but compares as nothing.
    return max(peaks, key=lambda peak: peak[0] if peak[0] == peak[0] else float("inf"))
