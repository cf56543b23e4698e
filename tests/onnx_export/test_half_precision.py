import runpy
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16
from tiny_deployed import float32_models, interface, properties

from fusionproxy_jax.evaluation.deployed_form import DeployedForm
from fusionproxy_jax.evaluation.extreme_pairs import extreme_pairs
from fusionproxy_jax.evaluation.graph_images import camera_noise
from fusionproxy_jax.onnx_export.fixed_size import fixed_size
from fusionproxy_jax.onnx_export.float16_range import largest_stored
from fusionproxy_jax.onnx_export.graph import tidy
from fusionproxy_jax.onnx_export.half_precision import half_precision, statistics_nodes

SCRIPT = Path(__file__).parents[2] / "export" / "use_from_pytorch.py"
FULL_HD = (1080, 1920)


def _loud() -> onnx.ModelProto:
    return float32_models()["loud.onnx"]


def _naive(model):
    """Converts everything, sums over whole images too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    half = convert_float_to_float16(copy, keep_io_types=True)
    del half.graph.value_info[:]
    return ir.to_proto(tidy(ir.from_proto(half)))


def _response(pair):
    """Returns the largest root mean square that the response norms see."""
    model = _loud()
    roots = [node.output[0] for node in model.graph.node if node.op_type == "Sqrt"]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, 1, None) for name in roots
    )
    import onnxruntime

    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    values = session.run(roots, dict(zip(("visible", "infrared"), pair, strict=True)))
    return max(float(value.max()) for value in values)


def _planes(pair):
    visible, infrared = (image.astype(np.float32) / 255 for image in pair)
    return visible.transpose(2, 0, 1)[None], infrared[None, None]


@pytest.fixture
def in_pytorch(tmp_path, monkeypatch):
    """Returns how to compute a form in PyTorch, in float16 where its file says so."""
    import torch

    # The script may put a stand-in there; other tests should not meet it.
    for name in ("torchvision", "torchvision.ops"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    load = runpy.run_path(str(SCRIPT))["load"]

    # Threads that wait for each other's cores are slower than one.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def fuse(model, pair):
        path = tmp_path / "student.onnx"
        path.write_bytes(model.SerializeToString())
        planes = [torch.from_numpy(np.ascontiguousarray(p)) for p in _planes(pair)]
        with torch.no_grad():
            return load(str(path))(*planes).numpy()

    yield fuse
    torch.set_num_threads(num_threads)


@pytest.mark.filterwarnings(
    # onnx2torch's Slice indexes with a list of slices.
    "ignore:Using a non-tuple sequence:UserWarning"
)
def test_a_loud_student_stays_finite_in_full_hd_where_a_plain_conversion_does_not(
    in_pytorch,
):
    pair = camera_noise(*FULL_HD)
    assert _response(_planes(pair)) >= 4
    wanted = in_pytorch(_loud(), pair)
    fused = in_pytorch(half_precision(_loud()), pair)
    assert fused.dtype == np.float32 and np.isfinite(fused).all()
    assert np.abs(fused - wanted).mean() <= 1 / 255
    assert not np.isfinite(in_pytorch(_naive(_loud()), pair)).all()


def test_the_float32_twin_tells_what_float16_cannot_hold():
    pair = camera_noise(480, 640)
    largest, _ = largest_stored(_loud(), half_precision(_loud()), [pair])
    assert 4 < largest < 65504
    largest, _ = largest_stored(_loud(), _naive(_loud()), [pair])
    assert largest > 65504


@pytest.mark.parametrize("file", ["light.onnx", "light_camera.onnx", "loud.onnx"])
def test_a_float16_file_is_half_as_large_and_close(file):
    model = float32_models()[file]
    half = half_precision(model)
    assert interface(half) == interface(model)
    assert properties(half) == properties(model)
    assert [(o.domain, o.version) for o in half.opset_import] == [("", 17)]
    floats = [t for t in model.graph.initializer if t.data_type == 1]
    stored = Counter()
    for tensor in half.graph.initializer:
        stored[tensor.data_type] += int(np.prod(tensor.dims))
    assert stored[onnx.TensorProto.FLOAT16] > 0.95 * sum(
        np.prod(tensor.dims) for tensor in floats
    )
    whole, reduced = (
        DeployedForm(name, form.SerializeToString(), threads=1)
        for name, form in (("whole", model), ("half", half))
    )
    for pair in extreme_pairs(64, 96).values():
        fused = reduced(*pair)
        assert np.isfinite(fused).all()
        assert np.abs(fused - whole(*pair)).mean() <= 1


def _kept_types(half, names):
    """Returns the element types of what the named nodes give."""
    inferred = onnx.shape_inference.infer_shapes(half)
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    return {
        types[name]
        for node in half.graph.node
        if node.name in names
        for name in node.output
    }


@pytest.mark.parametrize("name", ["loud", "light"])
def test_statistics_of_images_stay_float32_without_a_detour(name):
    model = float32_models()[f"{name}.onnx"]
    kept = statistics_nodes(model)
    operators = Counter(node.op_type for node in model.graph.node if node.name in kept)
    if name == "loud":
        # Squares, rows of ones, their products, counts, and roots behind them.
        assert {"Mul", "ConstantOfShape", "MatMul", "Cast", "Sqrt"} <= operators.keys()
    else:
        assert operators["GlobalAveragePool"] == 3
    assert not operators.keys() & {"Conv", "Gemm", "Relu", "Resize"}
    half = half_precision(model)
    assert onnx.TensorProto.FLOAT16 not in _kept_types(half, kept)
    # No value goes from float32 to float16 and back.
    producers = {name: node for node in half.graph.node for name in node.output}
    for node in half.graph.node:
        before = producers.get(node.input[0]) if node.input else None
        if node.op_type == "Cast" and before is not None and before.op_type == "Cast":
            assert node.attribute[0].i != onnx.TensorProto.FLOAT


def test_a_float16_form_can_have_one_size():
    half = half_precision(float32_models()["light_camera.onnx"])
    fixed = fixed_size(half, 64, 96)
    pair = camera_noise(64, 96)
    given, wanted = (
        DeployedForm("form", form.SerializeToString(), threads=1)(*pair)
        for form in (fixed, half)
    )
    assert np.abs(given - wanted).mean() < 0.05
