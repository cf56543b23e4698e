import functools
import runpy
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from models.tiny_encoders import TINY_STUDENTS
from PIL import Image
from tiny_student import TINY, exported, noise_pair, random_params

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.models.any_size import fuse_any_size
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.onnx_export import export, simplify, verify
from fusionproxy_jax.onnx_export.opset import lower_opset

SCRIPTS = Path(__file__).parents[1] / "export"
SIZES = [(1, 16, 16), (2, 61, 83), (1, 33, 130)]


def _session(file):
    return onnxruntime.InferenceSession(
        exported() / file, providers=["CPUExecutionProvider"]
    )


@functools.cache
def _flax(size):
    module = build_student(TINY, grouped=True)
    unit = [jnp.asarray(image, jnp.float32) / 255.0 for image in noise_pair(*size)]
    fuse = jax.jit(functools.partial(fuse_any_size, module))
    return np.asarray(fuse(random_params(), *unit))


def _nchw(image):
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2), np.float32) / 255.0


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_both_forms_equal_flax_in_onnx_runtime(size):
    visible, infrared = noise_pair(*size)
    expected = _flax(size)
    assert 0.02 < np.mean((expected > 0) & (expected < 1)) and expected.std() > 0.05
    fused = _session("tiny.onnx").run(
        ["fused"], {"visible": _nchw(visible), "infrared": _nchw(infrared)}
    )[0]
    np.testing.assert_allclose(fused.transpose(0, 2, 3, 1), expected, atol=1e-4)
    camera = _session("tiny_camera.onnx").run(
        ["fused"], {"visible": visible, "infrared": infrared}
    )[0]
    assert camera.dtype == np.uint8
    # At most half a level from the exact value, and a hair where rounding is a toss-up.
    assert np.abs(camera - expected * 255.0).max() < 0.5 + 1e-3


@functools.cache
def _exported_encoder(name):
    """Returns parameters, float form and its session of a tiny student."""
    config = TINY_STUDENTS[name]
    params = random_params(config)
    model = export.student_models(params, config, name, {})[f"{name}.onnx"]
    assert {(o.domain, o.version) for o in model.opset_import} == {("", 17)}
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return params, content, session


def _fused(session, size):
    pair = dict(
        zip(("visible", "infrared"), map(_nchw, noise_pair(*size)), strict=True)
    )
    return session.run(["fused"], pair)[0].transpose(0, 2, 3, 1)


def _in_pytorch(path, monkeypatch):
    """Returns size -> fused noise of an ONNX file that PyTorch runs."""
    import torch

    # The script may put a stand-in there; other tests should not meet it.
    for name in ("torchvision", "torchvision.ops"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    script = runpy.run_path(str(SCRIPTS / "use_from_pytorch.py"))
    model = script["load"](str(path))

    def fuse(size):
        pair = (torch.from_numpy(_nchw(image)) for image in noise_pair(*size))
        with torch.no_grad():
            return model(*pair).numpy().transpose(0, 2, 3, 1)

    return fuse


OTHER_ENCODERS = sorted(set(TINY_STUDENTS) - {"convnext_v2"})


@pytest.mark.parametrize("name", OTHER_ENCODERS)
def test_every_encoder_equals_flax_in_onnx_runtime(name):
    params, _, session = _exported_encoder(name)
    module = build_student(TINY_STUDENTS[name], grouped=True)
    fuse = jax.jit(functools.partial(fuse_any_size, module))
    # Of two sizes for the graph inside, too.
    for size in ((2, 61, 83), (1, 33, 130)):
        unit = [jnp.asarray(image, jnp.float32) / 255.0 for image in noise_pair(*size)]
        expected = np.asarray(fuse(params, *unit))
        assert expected.std() > 0.05
        np.testing.assert_allclose(_fused(session, size), expected, atol=1e-4)


@pytest.mark.parametrize("name", OTHER_ENCODERS)
def test_an_exported_encoder_takes_any_size(name):
    _, _, session = _exported_encoder(name)
    for height, width in ((16, 16), (17, 199), (95, 33), (200, 61)):
        fused = _fused(session, (1, height, width))
        assert fused.shape == (1, height, width, 3)
        assert 0.0 <= fused.min() < fused.max() <= 1.0


def test_affine_layers_leave_nothing_in_an_exported_graph():
    """Neither products of parameters nor passes over maps."""
    config = StudentConfig(
        stem_width=4,
        widths=(4,),
        depths=(1,),
        normalization="affine",
        activation="relu",
        response_norm=False,
    )
    core = export.core_graph(config, random_params(config))
    counts = Counter(node.op_type for node in core.graph.node)
    num_heads = len(config.widths) + 1
    # The heads' channel attention, multiplied into their weights.
    assert counts["Mul"] == num_heads
    # Everything is channels-first, as the images are.
    assert counts["Transpose"] == 0


@pytest.mark.filterwarnings(
    # onnx2torch's Slice indexes with a list of slices.
    "ignore:Using a non-tuple sequence:UserWarning"
)
def test_the_float_form_equals_flax_in_pytorch(monkeypatch):
    fuse = _in_pytorch(exported() / "tiny.onnx", monkeypatch)
    for size in SIZES:
        np.testing.assert_allclose(fuse(size), _flax(size), atol=1e-4)


@pytest.mark.filterwarnings(
    # As above.
    "ignore:Using a non-tuple sequence:UserWarning"
)
@pytest.mark.parametrize("name", OTHER_ENCODERS)
def test_every_encoder_is_the_same_in_pytorch(monkeypatch, tmp_path, name):
    _, content, session = _exported_encoder(name)
    path = tmp_path / "student.onnx"
    path.write_bytes(content)
    fuse = _in_pytorch(path, monkeypatch)
    for size in ((2, 61, 83), (1, 33, 130)):
        np.testing.assert_allclose(fuse(size), _fused(session, size), atol=1e-4)


def test_the_onnx_runtime_script_fuses_files(tmp_path):
    visible, infrared = noise_pair(1, 33, 50)
    files = [str(tmp_path / f"{name}.png") for name in ("visible", "infrared", "fused")]
    Image.fromarray(visible[0]).save(files[0])
    Image.fromarray(infrared[0, ..., 0]).save(files[1])
    script = runpy.run_path(str(SCRIPTS / "use_from_onnxruntime.py"))
    script["main"](str(exported() / "tiny_camera.onnx"), *files)
    expected = np.round(_flax((1, 33, 50))[0] * 255.0)
    assert np.abs(np.asarray(Image.open(files[2])) - expected).max() <= 1


def _interface(values):
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


@pytest.mark.parametrize(
    ("file", "dtype", "shape"),
    [
        ("tiny.onnx", onnx.TensorProto.FLOAT, lambda c: ["B", c, "H", "W"]),
        ("tiny_camera.onnx", onnx.TensorProto.UINT8, lambda c: ["B", "H", "W", c]),
    ],
)
def test_files_have_the_promised_interface(file, dtype, shape):
    model = onnx.load(exported() / file)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert _interface(model.graph.input) == {
        "visible": (dtype, shape(3)),
        "infrared": (dtype, shape(1)),
    }
    assert _interface(model.graph.output) == {"fused": (dtype, shape(3))}
    properties = {p.key: p.value for p in model.metadata_props}
    assert properties["name"] == "tiny"
    assert properties["colour_order"] == "RGB"
    assert properties["licence"] == "Apache-2.0"
    assert properties["training"] == '{"step": 7}'


def test_nothing_is_stored_outside_or_twice():
    model = onnx.load(exported() / "tiny.onnx", load_external_data=False)
    stored = [t for t in model.graph.initializer if t.data_location == 0]
    assert len(stored) == len(model.graph.initializer)
    contents = Counter(
        (t.data_type, tuple(t.dims), onnx.numpy_helper.to_array(t).tobytes())
        for t in stored
    )
    assert max(contents.values()) == 1


def test_onnx_runtime_finds_the_fast_forms(tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    # Level "extended": the next one is only valid on the machine it ran on and warns.
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    )
    onnxruntime.InferenceSession(
        exported() / "tiny.onnx", options, providers=["CPUExecutionProvider"]
    )
    nodes = Counter(
        n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node
    )
    num_blocks, num_merges = 2 * sum(TINY.depths), len(TINY.widths)
    assert nodes["Gelu"] == num_blocks + num_merges
    assert nodes["Erf"] == 0
    # What is left averages over channels, of one value each.
    assert nodes["ReduceMean"] == num_blocks
    num_heads, num_reductions = len(TINY.widths) + 1, len(TINY.widths)
    # Dense layers that take no gain: the first of each block, two per head, decoder's.
    # The heads' are fused with the activation behind them.
    assert nodes["Gemm"] == num_blocks + num_reductions
    assert nodes["FusedGemm"] == 2 * num_heads


def test_a_gained_map_read_elsewhere_is_left_alone():
    """The layer's input is also an output: replacing it would change the result."""
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    generator = np.random.default_rng(0)
    sizes = ["B", "H", "W", 3]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "gain"], ["gained"]),
            helper.make_node("Reshape", ["gained", "rows"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["y"]),
            helper.make_node("Relu", ["gained"], ["z"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", 1, sizes),
            helper.make_tensor_value_info("gain", 1, ["B", 1, 1, 3]),
        ],
        [
            helper.make_tensor_value_info("y", 1, ["N", 2]),
            helper.make_tensor_value_info("z", 1, sizes),
        ],
        [
            array(np.array([-1, 3]), "rows"),
            array(generator.random((3, 2), np.float32), "weights"),
            array(generator.random(2, np.float32), "bias"),
        ],
    )
    model = ir.from_proto(helper.make_model(graph))
    simplify.gain_into_weights(model.graph)
    assert [n.op_type for n in model.graph] == ["Mul", "Reshape", "Gemm", "Relu"]


def test_reductions_over_axes_known_only_at_run_time_are_refused():
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", 1, [2, 3]),
            helper.make_tensor_value_info("axes", 7, [1]),
        ],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    with pytest.raises(NotImplementedError, match="ReduceMean"):
        lower_opset(ir.from_proto(helper.make_model(graph)))


@pytest.mark.parametrize("difference", [0.01, float("inf"), float("nan")])
def test_an_export_that_disagrees_writes_nothing(tmp_path, monkeypatch, difference):
    monkeypatch.setattr(export, "student_models", lambda *args: {"a.onnx": None})
    monkeypatch.setattr(export, "max_differences", lambda *args: {"a.onnx": difference})
    with pytest.raises(FusionProxyError, match="differs from the Flax network"):
        export.export_student(random_params(), TINY, tmp_path, "a", {})
    assert not list(tmp_path.iterdir())


def test_other_parameters_are_noticed():
    model = onnx.load(exported() / "tiny.onnx")
    params = random_params()
    params["decoder"]["to_rgb"]["bias"] = params["decoder"]["to_rgb"]["bias"] + 0.01
    (difference,) = verify.max_differences({"tiny.onnx": model}, params, TINY).values()
    assert difference == pytest.approx(0.01, rel=1e-2)
