import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.image_graph import GraphValue, read_image_graph

FUSED = (GraphValue("fused", "float32", (1, 3, None, None)),)


def _read(*inputs, outputs=FUSED):
    return read_image_graph("m.onnx", [GraphValue(*given) for given in inputs], outputs)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (
            [
                ("visible", "float32", (None, 3, None, None)),
                ("infrared", "float32", (None, 1, None, None)),
            ],
            [
                "visible: visible, 3 x float32 NCHW",
                "infrared: infrared, 1 x float32 NCHW",
            ],
        ),
        (
            [
                ("visible", "uint8", (None, None, None, 3)),
                ("infrared", "uint8", (None, None, None, 1)),
            ],
            ["visible: visible, 3 x uint8 NHWC", "infrared: infrared, 1 x uint8 NHWC"],
        ),
        # Names decide over order, in any spelling.
        (
            [("IR_image", "float16", (1, 1, 8, 9)), ("vi", "float16", (1, 1, 8, 9))],
            ["IR_image: infrared, 1 x float16 NCHW", "vi: visible, 1 x float16 NCHW"],
        ),
        # Without names channels decide, then order.
        (
            [("x.1", "float32", (1, 1, 8, 9)), ("x.2", "float32", (1, 3, 8, 9))],
            ["x.1: infrared, 1 x float32 NCHW", "x.2: visible, 3 x float32 NCHW"],
        ),
        (
            [("x", "float32", (1, 3, 8, 9)), ("y", "float32", (1, 3, 8, 9))],
            ["x: visible, 3 x float32 NCHW", "y: infrared, 3 x float32 NCHW"],
        ),
        # A name that only contains the letters says nothing.
        (
            [("first", "float32", (1, 1, 8, 9)), ("circle", "float32", (1, 1, 8, 9))],
            [
                "first: visible, 1 x float32 NCHW",
                "circle: infrared, 1 x float32 NCHW",
            ],
        ),
        ([("x", "float32", (1, 4, 8, 9))], ["x: both, 4 x float32 NCHW"]),
        ([("x", "uint8", (1, 8, 9, 2))], ["x: both, 2 x uint8 NHWC"]),
        ([("x", "uint8", (1, 8, 9, 3))], ["x: visible, 3 x uint8 NHWC"]),
    ],
)
def test_roles_and_layouts_are_found_by_the_inputs(inputs, told):
    assert [str(image) for image in _read(*inputs).inputs] == told


def test_a_fixed_size_is_told_and_no_other_taken():
    graph = _read(
        ("v", "float32", (1, 3, 240, 320)), ("t", "float32", (1, 1, 240, 320))
    )
    assert graph.fixed_size == (240, 320)
    graph.check_size(240, 320)
    with pytest.raises(FusionProxyError, match="takes 240x320 only, not 320x240"):
        graph.check_size(320, 240)


def test_a_free_size_takes_any_and_one_fixed_side_only_its_own():
    assert _read(("v", "float32", (1, 3, None, None))).fixed_size is None
    graph = _read(("v", "float32", (1, 3, 240, None)))
    assert graph.fixed_size is None
    graph.check_size(240, 17)
    with pytest.raises(FusionProxyError, match="takes 240x17 only"):
        graph.check_size(241, 17)


def test_the_fused_output_is_preferred_and_the_first_taken_otherwise():
    values = [GraphValue(name, "float32", (1, 3, 8, 8)) for name in ("mask", "fused")]
    image = ("v", "float32", (1, 3, 8, 9))
    assert _read(image, outputs=values).output == "fused"
    assert _read(image, outputs=values[:1]).output == "mask"


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [("v", "float32", (3, 8, 9))],
        [("v", "float32", (1, 5, 8, 9))],
        [("v", "float32", (1, None, None, None))],
        [("v", "float32", (4, 3, 8, 9))],
        [("v", "int64", (1, 3, 8, 9))],
        # Which axis holds the channels cannot be told.
        [("v", "float32", (1, 3, 8, 3))],
        [("v", "float32", (1, 3, 8, 9)), ("t", "float32", (1, 1, 16, 18))],
        [("v", "float32", (1, 4, 8, 9)), ("t", "float32", (1, 1, 8, 9))],
        [(name, "float32", (1, 1, 8, 9)) for name in "abc"],
    ],
)
def test_other_inputs_are_refused_in_one_sentence(inputs):
    with pytest.raises(FusionProxyError) as refused:
        _read(*inputs)
    text = str(refused.value)
    assert text.startswith("m.onnx takes ") and "allowed are one or two images" in text
    assert "\n" not in text and ". " not in text
    assert all(f"{name} ({dtype} [" in text for name, dtype, _ in inputs)


def test_unknown_lengths_are_shown_as_such():
    with pytest.raises(FusionProxyError, match=r"v \(float32 \[1, \?, 8\]\)"):
        _read(("v", "float32", (1, None, 8)))
