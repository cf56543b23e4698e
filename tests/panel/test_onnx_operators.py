"""Every operator against onnxruntime, on random values and attributes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from jax.test_util import check_grads
from onnx_models import node, run, save

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.onnx_operators import OPERATORS
from fusionproxy_jax.panel.onnx_prefix import read_graph


class Case(NamedTuple):
    """One call; its input `x` is taken from the image, other inputs are constant."""

    operator: str
    shape: tuple[int, ...] = (2, 3, 4, 5)
    others: tuple[Any, ...] = ()
    """Shapes of random float constants, arrays, or None for an absent input."""
    attributes: dict[str, Any] = {}
    opset: int = 22
    outputs: int = 1
    position: int = 0
    """Of `x` among the inputs."""
    positive: bool = False
    before: str = ""
    """Type that `x` is cast to; the result is cast back."""


def _ints(*numbers):
    return np.array(numbers, np.int64)


def _floats(*numbers):
    return np.array(numbers, np.float32)


def _elementwise():
    for name in ("Abs", "Ceil", "Exp", "Floor", "Neg", "Tanh", "Erf", "HardSwish"):
        yield Case(name)
    for name in ("Relu", "Sigmoid", "Softplus", "Mish", "Identity"):
        yield Case(name)
    for name in ("Log", "Reciprocal", "Sqrt"):
        yield Case(name, positive=True)
    yield Case("Dropout", attributes={"ratio": 0.5}, opset=9)
    yield Case("Dropout", others=(_floats(0.5)[0],))
    for name, attributes in (
        ("Elu", {"alpha": 0.7}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("Gelu", {"approximate": "tanh"}),
    ):
        yield Case(name)
        yield Case(name, attributes=attributes)
    for name in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
        yield Case(name, others=((3, 1, 1),))
        yield Case(name, others=((),), position=1, positive=True)
    yield Case("Max", others=((5,), (1, 3, 1, 1)))
    yield Case("Add", shape=(3, 1), others=((2, 3, 4),))
    for number in (2.0, 3.0, 0.5, -1.5):
        yield Case("Pow", others=(_floats(number)[0],), positive=True)
    yield Case("Pow", others=(_floats(2.0),))
    yield Case("Pow", others=(_ints(1, 2, 3, 4, 5),))
    yield Case("Pow", others=((4, 5),), position=1, positive=True)
    yield Case("PRelu", others=((3, 1, 1),))
    yield Case("PRelu", others=((1,),), opset=9)
    yield Case("Clip", attributes={"min": -0.5, "max": 0.25}, opset=9)
    yield Case("Clip", attributes={"max": 0.25}, opset=9)
    yield Case("Clip", others=(_floats(-0.5)[0], _floats(0.3)[0]))
    yield Case("Clip", others=(None, _floats(0.3)[0]), opset=11)
    yield Case("Clip", others=(_floats(-0.5)[0],), opset=12)
    yield Case("Clip")
    for kind in ("INT64", "INT32", "BOOL", "FLOAT16"):
        yield Case("Cast", before=kind, attributes={"to": onnx.TensorProto.FLOAT})
    yield Case("Div", others=(_ints(2),), before="INT64")
    yield Case("Equal", others=(_ints(1),), before="INT64")
    yield Case("Where", others=((5,), (1, 3, 1, 1)), before="BOOL")


def _linear():
    rng = np.random.default_rng(1)
    for seed in range(14):
        rank = (2, 2, 2, 1, 3)[seed % 5]
        groups, depth = ((1, 3), (6, 1), (2, 2), (3, 2), (1, 4), (4, 1))[seed % 6]
        made = groups * (1 if seed % 3 else 2)
        size = rng.integers(1, 4, rank)
        attributes = {"group": groups, "strides": rng.integers(1, 4, rank).tolist()}
        automatic = ("NOTSET", "SAME_UPPER", "VALID", "NOTSET", "SAME_LOWER")[seed % 5]
        if automatic == "NOTSET":
            attributes["dilations"] = rng.integers(1, 3, rank).tolist()
            attributes["pads"] = rng.integers(0, 3, 2 * rank).tolist()
        else:
            attributes["auto_pad"] = automatic
        shape = (3, groups * depth, *rng.integers(7, 10, rank).tolist())
        others = ((made, depth, *size.tolist()), (made,))[: 1 + seed % 2]
        yield Case("Conv", shape, others, attributes, opset=9 if seed % 2 else 22)
    yield Case("MatMul", (6, 4), ((4, 5),))
    yield Case("MatMul", (2, 3, 6, 4), ((3, 4, 5),))
    yield Case("MatMul", (6, 4), ((2, 5, 6),), position=1)
    yield Case("MatMul", (2, 3, 4), ((4,),))
    yield Case("Gemm", (6, 4), ((4, 5), (5,)))
    yield Case("Gemm", (4, 6), ((5, 4),), {"transA": 1, "transB": 1, "alpha": 0.5})
    yield Case("Gemm", (6, 4), ((4, 5), (6, 1)), {"alpha": 0.5, "beta": 2.0}, opset=9)


def _pooling():
    rng = np.random.default_rng(2)
    for seed in range(24):
        rank = (2, 2, 1, 3)[seed % 4]
        size = rng.integers(2, 4, rank)
        attributes = {
            "kernel_shape": size.tolist(),
            "strides": rng.integers(1, 4, rank).tolist(),
            "ceil_mode": int(seed % 3 == 1),
        }
        if seed % 6 == 0:
            attributes["auto_pad"] = ("SAME_UPPER", "VALID", "SAME_LOWER")[
                seed // 6 % 3
            ]
        else:
            attributes["pads"] = [int(rng.integers(0, n)) for n in (*size, *size)]
        name = ("MaxPool", "AveragePool")[seed // 4 % 2]
        if name == "AveragePool":
            attributes["count_include_pad"] = int(seed % 2)
        if seed % 5 == 0 and "auto_pad" not in attributes:
            attributes["dilations"] = rng.integers(1, 3, rank).tolist()
        shape = (2, 3, *rng.integers(6, 10, rank).tolist())
        yield Case(name, shape, attributes=attributes)
    for name in ("GlobalAveragePool", "GlobalMaxPool"):
        yield Case(name)
        yield Case(name, (2, 3, 7))


def _normalization():
    statistics = ((3,), (3,), (3,), np.abs(_floats(0.5, -1.5, 2.0)))
    for opset in (9, 14, 15):
        yield Case("BatchNormalization", others=statistics, opset=opset)
    yield Case(
        "BatchNormalization", (2, 3, 7), statistics, {"epsilon": 0.1, "momentum": 0.5}
    )
    yield Case("InstanceNormalization", others=((3,), (3,)))
    yield Case("InstanceNormalization", (2, 3, 7), ((3,), (3,)), {"epsilon": 0.1})
    yield Case("LayerNormalization", others=((5,), (5,)))
    yield Case("LayerNormalization", others=((3, 4, 5),), attributes={"axis": 1})
    for axis in (1, 2, -1):
        yield Case("Softmax", attributes={"axis": axis}, opset=11)
        yield Case("Softmax", attributes={"axis": axis})
    yield Case("Softmax", opset=9)
    yield Case("Softmax")
    for name, inputs_from in (("ReduceMax", 18), ("ReduceMean", 18), ("ReduceSum", 13)):
        for keep in (0, 1):
            yield Case(
                name,
                attributes={"axes": [1, -1], "keepdims": keep},
                opset=inputs_from - 1,
            )
            yield Case(
                name, others=(_ints(1, -1),), attributes={"keepdims": keep}, opset=18
            )
        yield Case(name)
        yield Case(name, attributes={"noop_with_empty_axes": 1}, opset=18)


def _shapes():
    yield Case("Concat", others=((2, 1, 4, 5), (2, 2, 4, 5)), attributes={"axis": 1})
    yield Case("Concat", others=((2, 3, 4, 2),), attributes={"axis": -1}, position=1)
    yield Case("Reshape", others=(_ints(0, -1, 10),))
    yield Case("Reshape", others=(_ints(5, 4, 3, 2),), attributes={"allowzero": 1})
    yield Case("Reshape", others=(_ints(2, 1, -1),), opset=9)
    yield Case("Transpose")
    yield Case("Transpose", attributes={"perm": [0, 3, 1, 2]})
    for axis in (0, 2, -1):
        yield Case("Flatten", attributes={"axis": axis}, opset=11)
    yield Case("Flatten")
    yield Case("Squeeze", (1, 3, 1, 4), attributes={"axes": [0]}, opset=11)
    yield Case("Squeeze", (1, 3, 1, 4), (_ints(-2),))
    yield Case("Squeeze", (1, 3, 1, 4))
    yield Case("Unsqueeze", attributes={"axes": [0, 3]}, opset=11)
    yield Case("Unsqueeze", others=(_ints(-1, 1),))
    yield Case("Expand", (3, 1, 5), (_ints(2, 1, 4, 1),))
    yield Case("Gather", others=(_ints(2, 0, -1),), attributes={"axis": 1})
    yield Case("Gather", others=(_ints(1)[0],), attributes={"axis": -1})
    yield Case("Gather", others=(_ints(1, 0).reshape(1, 2),))
    yield Case("Split", attributes={"axis": 1, "split": [1, 2]}, opset=11, outputs=2)
    yield Case("Split", attributes={"axis": -2}, opset=9, outputs=2)
    yield Case("Split", others=(_ints(2, 3),), attributes={"axis": 3}, outputs=2)
    yield Case("Split", attributes={"axis": 3, "num_outputs": 3}, outputs=3)
    far = np.iinfo(np.int64)
    yield Case("Slice", attributes={"starts": [1, -3], "ends": [3, 99]}, opset=9)
    yield Case("Slice", attributes={"starts": [1], "ends": [-1], "axes": [3]}, opset=9)
    yield Case("Slice", others=(_ints(0, 1), _ints(2, far.max)))
    yield Case("Slice", others=(_ints(1, -99), _ints(-1, 4), _ints(3, -2), _ints(1, 3)))
    yield Case("Slice", others=(_ints(-1), _ints(far.min), _ints(3), _ints(-1)))
    yield Case("Slice", others=(_ints(9), _ints(-4), _ints(-1), _ints(-2)), opset=11)
    pads = (0, 1, 2, 3, 0, 0, 1, 2)
    for mode in ("constant", "reflect", "edge"):
        yield Case("Pad", attributes={"pads": pads, "mode": mode}, opset=9)
        yield Case("Pad", others=(_ints(*pads),), attributes={"mode": mode})
        crop = _ints(0, 0, -1, 2, 0, 0, 1, -2)
        yield Case("Pad", others=(crop,), attributes={"mode": mode}, opset=13)
    yield Case("Pad", attributes={"pads": pads, "value": 1.5}, opset=9)
    yield Case("Pad", others=(_ints(*pads), _floats(-2.0)[0]), opset=11)
    yield Case("Pad", others=(_ints(1, 2, 0, 3), _floats(0.5)[0], _ints(-1, 2)))
    for mode in ("DCR", "CRD"):
        attributes = {"blocksize": 2, "mode": mode}
        yield Case("DepthToSpace", (2, 12, 3, 4), attributes=attributes)
    yield Case("SpaceToDepth", (2, 3, 4, 6), attributes={"blocksize": 2})


def _resizing():
    ones = (1.0, 1.0)
    for mode in ("nearest", "linear"):
        for scales in ((2.0, 3.0), (1.5, 2.3)):
            yield Case(
                "Upsample",
                others=(_floats(*ones, *scales),),
                opset=9,
                attributes={"mode": mode},
            )
        for scales in ((0.6, 1.7), (2.0, 0.3)):
            yield Case(
                "Resize",
                others=(_floats(*ones, *scales),),
                opset=10,
                attributes={"mode": mode},
            )
        for number, coordinates in enumerate(
            ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
        ):
            attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
            scales = _floats(*ones, *((0.6, 1.7), (2.0, 2.0))[number % 2])
            yield Case("Resize", others=(None, scales), opset=13, attributes=attributes)
            sizes = _ints(2, 3, *((7, 1), (2, 11))[number % 2])
            yield Case(
                "Resize", others=(None, None, sizes), opset=19, attributes=attributes
            )
    for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
        yield Case(
            "Resize",
            others=(_floats(), _floats(1, 1, 2, 1.5)),
            attributes={
                "nearest_mode": rounding,
                "coordinate_transformation_mode": "asymmetric",
            },
            opset=11,
        )
    yield Case("Resize")._replace(
        others=(None, _floats(1.5, 0.5)),
        attributes={
            "axes": [-1, 2],
            "mode": "linear",
            "coordinate_transformation_mode": "half_pixel_symmetric",
        },
    )


CASES = {
    "elementwise": _elementwise,
    "linear": _linear,
    "pooling": _pooling,
    "normalization": _normalization,
    "shapes": _shapes,
    "resizing": _resizing,
}
GROUPS = sorted({(kind, c.opset) for kind, cases in CASES.items() for c in cases()})

# Places of the image with values of one sort: positive, any, exact in half precision.
PLACES = 600
POSITIVE, ANY, EXACT = (np.arange(n * PLACES, (n + 1) * PLACES) for n in range(3))


def _image(rng):
    values = [
        rng.uniform(0.2, 2.0, PLACES),
        rng.normal(size=PLACES),
        np.round(rng.normal(size=PLACES) * 16) / 8,
    ]
    return np.concatenate(values).reshape(1, 3, 20, PLACES // 20).astype(np.float32)


def _write(case, prefix, constants, rng):
    """Returns nodes from the flat image to outputs, and the outputs' names."""
    places = POSITIVE if case.positive else EXACT if case.before else ANY
    constants[f"{prefix}_places"] = rng.choice(places, case.shape)
    names = []
    for index, other in enumerate(case.others):
        names.append("" if other is None else f"{prefix}_constant{index}")
        if isinstance(other, tuple):
            values = rng.uniform(0.3, 1.5, other) * rng.choice([-1, 1], other)
            constants[names[-1]] = np.asarray(values, np.float32)
        elif other is not None:
            constants[names[-1]] = other
    names.insert(case.position, f"{prefix}_x")
    kind = getattr(onnx.TensorProto, case.before or "FLOAT")
    made = [f"{prefix}_made{index}" for index in range(case.outputs)]
    outputs = [f"{prefix}_out{index}" for index in range(case.outputs)]
    nodes = [
        node("Gather", ["flat", f"{prefix}_places"], [f"{prefix}_gathered"]),
        node("Cast", [f"{prefix}_gathered"], [f"{prefix}_x"], to=kind),
        node(case.operator, names, made, **case.attributes),
    ]
    for name, output in zip(made, outputs, strict=True):
        nodes.append(node("Cast", [name], [output], to=onnx.TensorProto.FLOAT))
    return nodes, outputs


@pytest.mark.parametrize(("kind", "opset"), GROUPS)
def test_operators_equal_onnxruntime(kind, opset, tmp_path):
    rng = np.random.default_rng(opset)
    constants = {"all": _ints(-1)}
    nodes, outputs, cases = [node("Reshape", ["image", "all"], ["flat"])], [], []
    for number, case in enumerate(c for c in CASES[kind]() if c.opset == opset):
        more, made = _write(case, f"{case.operator}{number}", constants, rng)
        nodes += more
        outputs += made
        cases += [case] * len(made)
    image = _image(rng)
    path = save(
        tmp_path / "operators.onnx",
        nodes,
        constants=constants,
        inputs=[("image", image.shape)],
        outputs=outputs,
        opset=opset,
    )
    graph = read_graph(path, outputs)
    results = jax.jit(graph)(graph.params, image)
    expected = run(path, outputs, image)
    for case, result, value in zip(cases, results, expected, strict=True):
        assert result.shape == value.shape and result.dtype == np.float32, case
        np.testing.assert_allclose(
            result, value, rtol=2e-5, atol=1e-5, err_msg=str(case)
        )


def test_every_operator_is_compared():
    # Constant, ConstantOfShape and Shape do not depend on pixels: see test_onnx_graph.
    compared = {case.operator for cases in CASES.values() for case in cases()}
    assert compared | {"Constant", "ConstantOfShape", "Shape"} == set(OPERATORS)


@pytest.mark.parametrize(
    "case",
    [
        Case("Conv", (1, 3, 7, 8), ((3, 1, 3, 2),), {"group": 3, "strides": [2, 1]}),
        Case("Conv", (1, 6, 7, 8), ((4, 3, 3, 2),), {"group": 2, "dilations": [1, 2]}),
        Case("MaxPool", (1, 3, 7, 8), (), {"kernel_shape": [3, 2], "strides": [2, 1]}),
        Case(
            "MaxPool", (1, 3, 7, 8), (), {"kernel_shape": [3, 2], "dilations": [2, 1]}
        ),
        Case(
            "AveragePool", (1, 3, 7, 8), (), {"kernel_shape": [2, 2], "pads": [1] * 4}
        ),
        Case(
            "AveragePool",
            (1, 3, 7, 8),
            (),
            {"kernel_shape": [2, 2], "dilations": [2, 1], "strides": [2, 2]},
        ),
        Case(
            "Resize", (1, 3, 4, 5), (None, _floats(1, 1, 1.6, 0.7)), {"mode": "linear"}
        ),
        Case("Resize", (1, 3, 4, 5), (None, None, _ints(1, 3, 8, 2))),
        Case("LayerNormalization", (1, 3, 5), ((5,),)),
        Case("Pad", (1, 3, 4), (_ints(0, 1, 2, 0, 0, 1),), {"mode": "reflect"}),
        Case("Slice", (1, 3, 4), (_ints(-1), _ints(-9), _ints(2), _ints(-2))),
        Case("DepthToSpace", (1, 12, 2, 3), (), {"blocksize": 2}),
        Case("Softmax", (1, 3, 4), (), {"axis": 1}),
    ],
    ids=lambda case: case.operator,
)
def test_gradients_are_those_of_finite_differences(case, tmp_path):
    rng = np.random.default_rng(3)
    constants = {"all": _ints(-1)}
    nodes, outputs = _write(case, "one", constants, rng)
    # Values far apart: no maximum changes within the finite step.
    image = rng.permutation(3 * PLACES).reshape(1, 3, 20, PLACES // 20) / 100 - 9
    path = save(
        tmp_path / "operator.onnx",
        [node("Reshape", ["image", "all"], ["flat"]), *nodes],
        constants=constants,
        inputs=[("image", image.shape)],
        outputs=outputs,
        opset=case.opset,
    )
    graph = read_graph(path, outputs)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), graph.params)
        tensor = jax.jit(lambda x: graph(params, x)[0])
        check_grads(tensor, (image,), order=1, modes=["rev"], eps=1e-4)


TWICE = (None, _floats(1, 1, 2, 2))
REFUSED = {
    "mode 'cubic'": Case("Resize", others=TWICE, attributes={"mode": "cubic"}),
    "antialias 1": Case("Resize", others=TWICE, attributes={"antialias": 1}),
    "mode 'wrap'": Case("Pad", others=(_ints(*[1] * 8),), attributes={"mode": "wrap"}),
    "training_mode 1": Case(
        "BatchNormalization", others=((3,),) * 4, attributes={"training_mode": 1}
    ),
    r"shapes \[\(2, 3, 4, 5\), \(2, 3, 1, 1\)\]": Case(
        "Concat", others=((2, 3, 1, 1),), attributes={"axis": 1}
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_evaluated_is_named_with_its_node(words, tmp_path):
    case = REFUSED[words]
    constants = {"all": _ints(-1)}
    nodes, outputs = _write(case, "one", constants, np.random.default_rng(0))
    path = save(
        tmp_path / "operator.onnx",
        [node("Reshape", ["image", "all"], ["flat"]), *nodes],
        constants=constants,
        inputs=[("image", (1, 3, 20, PLACES // 20))],
        outputs=outputs,
        opset=case.opset,
    )
    graph = read_graph(path, outputs)
    image = jax.ShapeDtypeStruct((1, 3, 20, PLACES // 20), jnp.float32)
    with pytest.raises(FusionProxyError, match=f"'one_made0' .*{words}"):
        jax.eval_shape(graph, graph.params, image)
