import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.graph_images import (
    camera_noise,
    from_tensor,
    to_tensors,
)
from fusionproxy_jax.evaluation.image_graph import GraphValue, read_image_graph

VISIBLE, INFRARED = camera_noise(5, 7)
LUMA = np.rint(VISIBLE @ np.array([0.299, 0.587, 0.114]))


def _graph(*inputs):
    outputs = [GraphValue("fused", "float32", ())]
    return read_image_graph("m", [GraphValue(*given) for given in inputs], outputs)


def test_a_camera_graph_is_fed_the_images_as_they_are():
    graph = _graph(("v", "uint8", (1, 5, 7, 3)), ("ir", "uint8", (1, 5, 7, 1)))
    tensors = to_tensors(graph, VISIBLE, INFRARED)
    np.testing.assert_array_equal(tensors["v"], VISIBLE[None])
    np.testing.assert_array_equal(tensors["ir"], INFRARED[None, ..., None])


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-7), ("float16", 1e-3)])
def test_a_float_graph_is_fed_planes_between_zero_and_one(dtype, atol):
    graph = _graph(("v", dtype, (1, 3, 5, 7)), ("ir", dtype, (1, 3, 5, 7)))
    tensors = to_tensors(graph, VISIBLE, INFRARED)
    assert {tensor.dtype.name for tensor in tensors.values()} == {dtype}
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())
    for channel in range(3):
        np.testing.assert_allclose(
            tensors["v"][0, channel], VISIBLE[..., channel] / 255, atol=atol
        )
        np.testing.assert_allclose(tensors["ir"][0, channel], INFRARED / 255, atol=atol)


def test_stacked_inputs_hold_the_infrared_image_last():
    four = to_tensors(_graph(("x", "uint8", (1, 5, 7, 4))), VISIBLE, INFRARED)["x"][0]
    np.testing.assert_array_equal(four[..., :3], VISIBLE)
    np.testing.assert_array_equal(four[..., 3], INFRARED)
    two = to_tensors(_graph(("x", "uint8", (1, 2, 5, 7))), VISIBLE, INFRARED)["x"][0]
    np.testing.assert_allclose(two[0], LUMA, atol=1)
    np.testing.assert_array_equal(two[1], INFRARED)


@pytest.mark.parametrize(
    "given",
    [
        ("v", "uint8", (1, 5, 7, 3)),
        ("v", "uint8", (1, 3, 5, 7)),
        ("v", "float32", (1, 3, 5, 7)),
        ("v", "float32", (1, 5, 7, 3)),
        ("v", "float16", (1, 3, 5, 7)),
    ],
)
def test_the_way_to_a_graph_and_back_changes_nothing(given):
    graph = _graph(given)
    tensor = to_tensors(graph, VISIBLE, INFRARED)["v"]
    back = from_tensor(graph, tensor, VISIBLE)
    assert back.dtype == np.uint8 and back.flags.c_contiguous
    np.testing.assert_array_equal(back, VISIBLE)


def test_floats_beyond_the_range_are_clipped():
    graph = _graph(("v", "float32", (1, 3, 5, 7)))
    for value, level in [(-3.0, 0), (3.0, 255), (0.5019, 128)]:
        tensor = np.full((1, 3, 5, 7), value, np.float32)
        assert (from_tensor(graph, tensor, VISIBLE) == level).all()


def test_a_grey_result_takes_the_colour_of_the_visible_image():
    graph = _graph(("v", "float32", (1, 1, 5, 7)), ("ir", "float32", (1, 1, 5, 7)))
    luminance = to_tensors(graph, VISIBLE, INFRARED)["v"]
    for fused in (luminance, luminance[0]):
        back = from_tensor(graph, fused, VISIBLE)
        # Its own luminance gives the visible image, up to the rounding of YCbCr.
        assert np.abs(back.astype(int) - VISIBLE).max() <= 3
    grey = np.repeat(INFRARED[..., None], 3, axis=2)
    again = from_tensor(graph, INFRARED[None, None] / np.float32(255), grey)
    np.testing.assert_array_equal(again, grey)


@pytest.mark.parametrize("shape", [(1, 3, 5, 8), (1, 2, 5, 7), (1, 5), (5, 7)])
def test_an_output_that_is_no_such_image_is_one_sentence(shape):
    graph = _graph(("v", "float32", (1, 3, 5, 7)))
    with pytest.raises(FusionProxyError, match=r"m gives fused of shape \[.* 5x7"):
        from_tensor(graph, np.zeros(shape, np.float32), VISIBLE)
