import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx_models import node, run, save

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.onnx_file import OnnxFile
from fusionproxy_jax.panel.onnx_prefix import read_graph

RNG = np.random.default_rng(5)
KERNEL = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
CONVOLUTION = node("Conv", ["image", "kernel"], ["made"], pads=[1] * 4, name="first")


def _image(height=8, width=10):
    return RNG.uniform(size=(1, 3, height, width)).astype(np.float32)


def _ints(*numbers):
    return np.array(numbers, np.int64)


def _convolution_then(path, *nodes, **settings):
    constants = {"kernel": KERNEL, **settings.pop("constants", {})}
    return save(path, [CONVOLUTION, *nodes], constants=constants, **settings)


def _assert_equal_to_onnxruntime(path, tensors, image):
    graph = read_graph(path, tensors)
    results = jax.jit(graph)(graph.params, image)
    for result, expected in zip(results, run(path, tensors, image), strict=True):
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    return graph


def test_only_what_the_tensor_needs_is_read(tmp_path):
    path = _convolution_then(
        tmp_path / "a.onnx",
        node("Unheard", ["made", "second"], ["odd"], domain="com.example"),
        node("Add", ["made", "second"], ["out"]),
        constants={"second": np.ones(1, np.float32)},
        domains=[("com.example", 1)],
    )
    graph = read_graph(path, ["made"])
    assert [each.operator for each in graph.nodes] == ["Conv"]
    assert list(graph.params) == ["kernel"] and not graph.constants


def test_constant_arithmetic_is_done_when_the_file_is_read(tmp_path):
    path = save(
        tmp_path / "a.onnx",
        [
            node("Constant", [], ["factor"], value_float=2.0),
            node("Mul", ["kernel", "factor"], ["double"]),
            node("Constant", [], ["axes"], value_ints=[0, 3, 1, 2]),
            node("Gather", ["axes", "places"], ["shape"]),
            node("Conv", ["image", "double"], ["made"]),
            node("Reshape", ["made", "shape"], ["out"]),
        ],
        constants={"kernel": KERNEL, "places": _ints(0, 0, 2, 1)},
    )
    graph = read_graph(path, ["out"])
    assert [each.operator for each in graph.nodes] == ["Conv", "Reshape"]
    np.testing.assert_array_equal(graph.params["double"], 2 * KERNEL)
    np.testing.assert_array_equal(graph.constants["shape"], [0, 0, 1, 3])
    assert graph.params.keys() == {"double"} and graph.constants.keys() == {"shape"}


@pytest.mark.parametrize("size", [(8, 10), (12, 6)])
def test_shape_arithmetic_follows_the_image(size, tmp_path):
    nodes = [
        node("Shape", ["made"], ["shape"]),
        node("Gather", ["shape", "two"], ["height"]),
        node("Gather", ["shape", "three"], ["width"]),
        # Sizes by way of floating numbers, as exporters of interpolation write them.
        node("Cast", ["height"], ["height_number"], to=onnx.TensorProto.FLOAT),
        node("Mul", ["height_number", "factor"], ["scaled"]),
        node("Floor", ["scaled"], ["floored"]),
        node("Cast", ["floored"], ["new_height"], to=onnx.TensorProto.INT64),
        node("Unsqueeze", ["new_height", "zero"], ["new_heights"]),
        node("Div", ["width", "two"], ["half"]),
        node("Unsqueeze", ["half", "zero"], ["new_widths"]),
        node("Slice", ["shape", "zero", "two_long"], ["batch_and_channels"]),
        node("Concat", ["batch_and_channels", "new_heights", "new_widths"], ["sizes"],
             axis=0),
        node("Resize", ["made", "", "", "sizes"], ["small"], mode="linear"),
        node("Mul", ["small", "factor"], ["brighter"]),
        node("ConstantOfShape", ["sizes"], ["ones"],
             value=onnx.helper.make_tensor("one", 1, [1], [1.0])),
        node("Add", ["brighter", "ones"], ["out"]),
    ]  # fmt: skip
    path = _convolution_then(
        tmp_path / "a.onnx",
        *nodes,
        constants={
            "zero": _ints(0),
            "two": np.int64(2),
            "two_long": _ints(2),
            "three": np.int64(3),
            "factor": np.float32(1.6),
        },
        inputs=[("image", (1, 3, None, None))],
    )
    graph = _assert_equal_to_onnxruntime(path, ["out"], _image(*size))
    assert graph.image_size == (None, None) and list(graph.params) == ["kernel"]


def test_every_way_to_write_a_constant_is_read(tmp_path):
    names = ("value_float", "value_floats", "value_int", "value_ints")
    values = (0.5, [0.1 * place for place in range(10)], 3, list(range(10)))
    tensor = onnx.numpy_helper.from_array(np.array([[0.25]], np.float32))
    nodes = [node("Constant", [], ["made"], value=tensor)]
    for name, value in zip(names, values, strict=True):
        nodes.append(node("Constant", [], [name], **{name: value}))
        nodes.append(node("Cast", [name], [f"as_{name}"], to=onnx.TensorProto.FLOAT))
    terms = ["image", "made", *(f"as_{name}" for name in names)]
    for index, term in enumerate(terms[1:]):
        left = terms[0] if index == 0 else f"sum{index}"
        nodes.append(node("Add", [left, term], [f"sum{index + 1}"]))
    path = save(tmp_path / "a.onnx", nodes, outputs=[f"sum{len(terms) - 1}"])
    _assert_equal_to_onnxruntime(path, [f"sum{len(terms) - 1}"], _image())


def test_nodes_may_be_stored_in_any_order_and_be_thousands(tmp_path):
    nodes = [node("Neg", ["image"], ["t0"])]
    for index in range(2001):
        nodes.append(node("Identity", [f"t{index}"], [f"t{index + 1}"]))
    path = save(tmp_path / "a.onnx", nodes[::-1], outputs=["t2001"])
    graph = read_graph(path, ["t2001"])
    image = _image()
    np.testing.assert_array_equal(graph(graph.params, image)[0], -image)


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_parameters_are_float32_whatever_the_file_holds(kind, tmp_path):
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    path = save(
        tmp_path / "a.onnx",
        [CONVOLUTION, node("Relu", ["made"], ["out"])],
        constants={"kernel": KERNEL.astype(kind)},
        kind=number,
    )
    graph = read_graph(path, ["out"])
    assert graph.params["kernel"].dtype == np.float32
    (result,) = graph(graph.params, _image())
    assert result.dtype == jnp.float32


def test_bfloat16_stays_bfloat16_among_numbers_of_the_file(tmp_path):
    path = _convolution_then(
        tmp_path / "a.onnx",
        node("Div", ["made", "six"], ["less"]),
        node("Pow", ["less", "exponent"], ["squared"]),
        node("ReduceMean", ["squared"], ["mean"], axes=[2, 3]),
        node("Cast", ["mean"], ["cast"], to=onnx.TensorProto.FLOAT),
        node("InstanceNormalization", ["less", "four", "four"], ["norm"]),
        node("Softmax", ["norm"], ["share"], axis=1),
        node("AveragePool", ["share"], ["pooled"], kernel_shape=[2, 2]),
        node("Mul", ["pooled", "cast"], ["out"]),
        constants={
            "six": np.float32(6),
            "exponent": np.float32(2),
            "four": np.ones(4, np.float32),
        },
    )
    graph = read_graph(path, ["out"])
    params = {name: jnp.asarray(a, jnp.bfloat16) for name, a in graph.params.items()}
    image = _image()
    compiled = jax.jit(graph)
    (exact,) = compiled(graph.params, image)
    (result,) = compiled(params, jnp.asarray(image, jnp.bfloat16))
    assert result.dtype == jnp.bfloat16
    difference = np.abs(np.asarray(result, np.float32) - exact)
    assert 0 < difference.max() < 0.03 * np.abs(exact).max()


def test_weights_in_a_file_beside_the_model_are_read(tmp_path):
    path = _convolution_then(tmp_path / "a.onnx", node("Relu", ["made"], ["out"]))
    model = onnx.load(path)
    onnx.save(
        model,
        tmp_path / "b.onnx",
        save_as_external_data=True,
        location="b.weights",
        size_threshold=0,
    )
    graph = read_graph(tmp_path / "b.onnx", ["out"])
    np.testing.assert_array_equal(graph.params["kernel"], KERNEL)
    (tmp_path / "b.weights").unlink()
    with pytest.raises(FusionProxyError, match="lacks a file of weights"):
        read_graph(tmp_path / "b.onnx", ["out"])


def test_the_digest_changes_with_what_the_result_follows_from(tmp_path):
    def digest(name, *, kernel=KERNEL, alpha=0.1, height=8, after=1.0, tensor="out"):
        path = save(
            tmp_path / f"{name}.onnx",
            [
                CONVOLUTION,
                node("LeakyRelu", ["made"], ["out"], alpha=alpha),
                node("Mul", ["out", "after"], ["end"]),
            ],
            constants={"kernel": kernel, "after": np.float32(after)},
            inputs=[("image", (1, 3, height, 10))],
            outputs=["end"],
        )
        return read_graph(path, [tensor]).digest

    first = digest("first")
    assert digest("renamed") == first
    assert digest("beyond", after=2.0) == first
    others = {
        digest("kernel", kernel=KERNEL + np.float32(1e-6)),
        digest("alpha", alpha=0.2),
        digest("height", height=9),
        digest("tensor", tensor="made"),
    }
    assert len(others | {first}) == 5


def _refused(path, tensor="out"):
    with pytest.raises(FusionProxyError) as caught:
        graph = read_graph(path, [tensor])
        image = jax.ShapeDtypeStruct((1, 3, 8, 10), jnp.float32)
        jax.eval_shape(graph, graph.params, image)
    return str(caught.value)


def test_an_unknown_tensor_is_answered_with_near_names_and_shapes(tmp_path):
    nodes = [
        node("Relu", ["made"], ["stage1_out"]),
        node("MaxPool", ["stage1_out"], ["stage2_out"], kernel_shape=[2, 2]),
    ]
    path = _convolution_then(tmp_path / "a.onnx", *nodes, outputs=["stage2_out"])
    message = _refused(path, "stage2.out")
    assert "no tensor 'stage2.out'" in message
    assert "stage2_out [1, 4, 7, 9], stage1_out [1, 4, 8, 10]" in message
    assert "no tensor 'image'" in _refused(path, "image")


def test_an_unsupported_operator_is_named_with_its_node_and_the_supported(tmp_path):
    nodes = [node("Einsum", ["made"], ["out"], equation="abcd->abdc", name="swap")]
    message = _refused(_convolution_then(tmp_path / "a.onnx", *nodes))
    assert "node 'swap' (Einsum)" in message
    assert "Abs, Add, AveragePool" in message and "Upsample, Where" in message


def test_shapes_made_from_pixels_are_refused(tmp_path):
    nodes = [
        node("ReduceMax", ["made"], ["largest"], keepdims=0),
        node("Cast", ["largest"], ["length"], to=onnx.TensorProto.INT64),
        node("Unsqueeze", ["length", "zero"], ["shape"]),
        node("Expand", ["made", "shape"], ["out"], name="widen"),
    ]
    path = _convolution_then(tmp_path / "a.onnx", *nodes, constants={"zero": _ints(0)})
    assert "node 'widen' (Expand) computes its shape from pixels" in _refused(path)


def test_a_second_output_is_refused_only_where_it_is_used(tmp_path):
    nodes = [
        node("MaxPool", ["made"], ["pooled", "places"], kernel_shape=[2, 2], name="p"),
        node("Cast", ["places"], ["numbers"], to=onnx.TensorProto.FLOAT),
        node("Add", ["pooled", "numbers"], ["out"]),
    ]
    path = _convolution_then(tmp_path / "a.onnx", *nodes)
    for tensor in ("out", "places"):
        message = _refused(path, tensor)
        assert "node 'p' (MaxPool) has a second output that is used" in message
    _assert_equal_to_onnxruntime(path, ["pooled"], _image())


@pytest.mark.parametrize(
    ("inputs", "described"),
    [
        ([("image", (1, 3, 8, 10)), ("size", (1, 1, 1, 1))], r"size \[1, 1, 1, 1\]"),
        ([("image", (1, 8, 10, 3))], r"image \[1, 8, 10, 3\]"),
        ([("image", (4, 3, 8, 10))], r"image \[4, 3, 8, 10\]"),
    ],
)
def test_inputs_other_than_one_image_are_refused(inputs, described, tmp_path):
    names = [name for name, _ in inputs]
    path = save(tmp_path / "a.onnx", [node("Max", names, ["out"])],
                inputs=inputs)  # fmt: skip
    with pytest.raises(FusionProxyError, match=described):
        read_graph(path, ["out"])


def test_files_that_cannot_be_read_are_refused_in_a_sentence(tmp_path):
    assert "there is no ONNX file" in _refused(tmp_path / "absent.onnx")
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x07\x12")
    assert "is damaged" in _refused(tmp_path / "torn.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "is damaged" in _refused(tmp_path / "empty.onnx")
    path = _convolution_then(
        tmp_path / "old.onnx", node("Relu", ["made"], ["out"]), opset=8
    )
    assert "opset 8; 9 to 25" in _refused(path)
    nodes = [node("Add", ["image", "b"], ["a"]), node("Neg", ["a"], ["b"])]
    path = save(tmp_path / "circle.onnx", nodes, outputs=["b"])
    assert "depends on itself" in _refused(path, "b")


# Compilation takes longer than the run.
QUICK = {"xla_backend_optimization_level": 0}
DETECTORS = {
    "nanodet_m_416.onnx": ("492", "623"),
    "picodet_s_320.onnx": ("reshape2_3.tmp_0", "reshape2_15.tmp_0"),
}


@pytest.mark.parametrize("file", DETECTORS)
def test_real_detectors_equal_onnxruntime_at_taps_and_outputs(file, real_models):
    path = real_models / file
    tensors = (*DETECTORS[file], *OnnxFile(path).outputs)
    graph = read_graph(path, tensors)
    image = RNG.normal(size=(1, 3, *graph.image_size)).astype(np.float32)
    results = jax.jit(graph, compiler_options=QUICK)(graph.params, image)
    for result, expected in zip(results, run(path, tensors, image), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("file", DETECTORS)
def test_gradients_of_real_detectors_are_those_of_finite_differences(file, real_models):
    graph = read_graph(real_models / file, DETECTORS[file][:1])
    image = RNG.normal(size=(1, 3, *graph.image_size))
    with jax.enable_x64(True):
        params = {name: jnp.asarray(a, jnp.float64) for name, a in graph.params.items()}

        def energy(image):
            return jnp.mean(jnp.square(graph(params, image)[0]))

        energy = jax.jit(jax.value_and_grad(energy), compiler_options=QUICK)

        gradient = np.asarray(energy(image)[1])
        # Mostly uphill: in a random direction next to nothing would change.
        step = gradient / gradient.std() + RNG.normal(size=image.shape)
        step *= 1e-7
        change = float(energy(image + step)[0] - energy(image - step)[0]) / 2
    np.testing.assert_allclose(np.sum(gradient * step), change, rtol=1e-5)
