"""Small ONNX files, and what onnxruntime makes of ONNX files."""

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper


def save(
    path,
    nodes,
    *,
    constants=(),
    inputs=(("image", (1, 3, 8, 10)),),
    outputs=("out",),
    opset=17,
    kind=onnx.TensorProto.FLOAT,
    domains=(),
):
    """Writes a model of `nodes`; sizes None are left open."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in dict(constants).items()
        ],
    )
    opsets = [helper.make_opsetid(*each) for each in (("", opset), *domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, path)
    return path


def run(path, tensors, image):
    """Returns `tensors` by onnxruntime, whether or not the file has them as outputs."""
    model = onnx.load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    (name,) = [i.name for i in model.graph.input if i.name not in constants]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=each) for each in tensors)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(list(tensors), {name: np.asarray(image)})


node = helper.make_node
