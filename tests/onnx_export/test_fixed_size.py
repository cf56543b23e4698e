from collections import Counter

import numpy as np
import pytest
from onnx import helper, numpy_helper
from tiny_deployed import float32_models, interface, properties

from fusionproxy_jax.evaluation.deployed_form import DeployedForm
from fusionproxy_jax.evaluation.graph_images import camera_noise
from fusionproxy_jax.onnx_export.fixed_size import fixed_size, map_names

FILES = ("light.onnx", "light_camera.onnx", "loud.onnx", "loud_camera.onnx")


def _model(file):
    return float32_models()[file]


def _fuse(model, pair):
    return DeployedForm("form", model.SerializeToString(), threads=1)(*pair)


@pytest.mark.parametrize("size", [(64, 96), (61, 83)], ids=str)
@pytest.mark.parametrize("file", FILES)
def test_a_form_of_one_size_equals_the_one_of_any(file, size):
    model = _model(file)
    fixed = fixed_size(model, *size)
    pair = camera_noise(*size)
    wanted = _fuse(model, pair)
    assert wanted.std() > 5
    # Between two levels a camera form may round either way.
    atol = 1 if "camera" in file else 0.01
    np.testing.assert_allclose(_fuse(fixed, pair), wanted, atol=atol)


@pytest.mark.parametrize("file", FILES)
def test_every_value_has_a_shape_in_numbers(file):
    fixed = fixed_size(_model(file), 64, 96)
    told = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (
            *fixed.graph.input,
            *fixed.graph.value_info,
            *fixed.graph.output,
        )
        if all(axis.HasField("dim_value") for axis in value.type.tensor_type.shape.dim)
    }
    given = {name for node in fixed.graph.node for name in node.output}
    assert given <= told.keys()
    assert told["fused"] == ([1, 64, 96, 3] if "camera" in file else [1, 3, 64, 96])


def test_nothing_pads_cuts_or_asks_for_sizes_where_the_size_fits():
    fixed = fixed_size(_model("light_camera.onnx"), 64, 96)
    counts = Counter(node.op_type for node in fixed.graph.node)
    assert not counts.keys() & {"Shape", "Gather", "Mod", "Neg", "Pad", "Slice"}
    assert counts["Conv"] == sum(
        node.op_type == "Conv" for node in _model("light_camera.onnx").graph.node
    )
    odd = fixed_size(_model("light_camera.onnx"), 61, 83)
    assert Counter(node.op_type for node in odd.graph.node)["Pad"] == 2


def test_a_form_of_one_size_keeps_its_origin_and_tells_its_size():
    model = _model("light.onnx")
    fixed = fixed_size(model, 64, 96)
    assert properties(fixed) == properties(model) | {"size": "64x96"}
    assert [(o.domain, o.version) for o in fixed.opset_import] == [("", 17)]
    assert fixed.ir_version == 8 and fixed.producer_name == "fusionproxy-jax"
    assert {name: axes for name, _, axes in interface(fixed)} == {
        "visible": [1, 3, 64, 96],
        "infrared": [1, 1, 64, 96],
        "fused": [1, 3, 64, 96],
    }
    # Folded sizes are few numbers: no map of constants is stored.
    assert fixed.ByteSize() < model.ByteSize() + 30_000


def _chain(nodes, constants):
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", 1, ["B", 2, "H", "W"])],
        [helper.make_tensor_value_info("y", 1, ["B", 2, "H", "W"])],
        [numpy_helper.from_array(np.array(v), k) for k, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def test_a_slice_that_reverses_is_not_taken_for_an_idle_one():
    node = helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"])
    constants = {"starts": [-1], "ends": [-(2**31)], "axes": [1], "steps": [-1]}
    fixed = fixed_size(_chain([node], constants), 16, 32)
    assert [node.op_type for node in fixed.graph.node] == ["Slice"]
    idle = fixed_size(
        _chain([node], constants | {"starts": [0], "ends": [2], "steps": [1]}), 16, 32
    )
    assert not idle.graph.node or idle.graph.node[0].op_type == "Identity"


def test_values_that_grow_with_the_image_are_maps():
    nodes = [
        helper.make_node("Relu", ["x"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
        helper.make_node("Mul", ["map", "mean"], ["y"]),
    ]
    assert map_names(_chain(nodes, {})) == {"x", "map", "y"}
