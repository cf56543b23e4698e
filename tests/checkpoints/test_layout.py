import warnings

import jax
import numpy as np
import pytest
import torch

from fusionproxy_jax.checkpoints.layout import TRANSFORMS, cast, shape_after


def _normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_conv_gives_the_convolution_of_torch():
    image, kernel = _normal(1, 3, 6, 7), _normal(4, 3, 2, 3)
    expected = torch.nn.functional.conv2d(torch.tensor(image), torch.tensor(kernel))
    found = jax.lax.conv_general_dilated(
        image.transpose(0, 2, 3, 1),
        TRANSFORMS["conv"](kernel),
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(
        np.asarray(found).transpose(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-5
    )


def test_linear_gives_the_linear_layer_of_torch():
    vector, weight = _normal(2, 3), _normal(5, 3)
    expected = torch.nn.functional.linear(torch.tensor(vector), torch.tensor(weight))
    found = vector @ TRANSFORMS["linear"](weight)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_conv1d_gives_the_pointwise_convolution_of_torch():
    tokens, kernel = _normal(2, 3, 7), _normal(5, 3, 1)
    expected = torch.nn.functional.conv1d(torch.tensor(tokens), torch.tensor(kernel))
    found = tokens.transpose(0, 2, 1) @ TRANSFORMS["conv1d"](kernel)
    np.testing.assert_allclose(found.transpose(0, 2, 1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 1), (5, 3, 1, 1)])
def test_pointwise_gives_the_linear_layer_however_it_is_stored(shape):
    vector, weight = _normal(2, 3), _normal(*shape)
    expected = vector @ weight.reshape(5, 3).T
    found = vector @ TRANSFORMS["pointwise"](weight)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_square_gives_rows_of_a_table_by_row_and_column():
    tables = _normal(2, 3, 3)
    found = TRANSFORMS["square"](tables.reshape(2, 9))
    np.testing.assert_array_equal(found, tables)


def test_flat_leaves_the_one_axis_that_counts():
    values = _normal(5)
    found = TRANSFORMS["flat"](values.reshape(1, 1, 1, 5))
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("name", ["as_is", "embedding"])
def test_the_rest_stays_as_it_is(name):
    values = _normal(3, 4)
    assert TRANSFORMS[name](values) is values


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("conv", (6, 5, 3, 2), (3, 2, 5, 6)),
        ("conv", (6, 5, 3), None),
        ("linear", (6, 5), (5, 6)),
        ("linear", (6,), None),
        ("linear", (6, 5, 1), None),
        ("conv1d", (6, 5, 1), (5, 6)),
        ("conv1d", (6, 5, 3), None),
        ("conv1d", (6, 5), None),
        ("pointwise", (6, 5, 1, 1), (5, 6)),
        ("pointwise", (6, 5, 3, 3), None),
        ("pointwise", (6,), None),
        ("flat", (1, 1, 1, 6), (6,)),
        ("flat", (6,), (6,)),
        ("flat", (6, 5), None),
        ("flat", (), None),
        ("square", (8, 49), (8, 7, 7)),
        ("square", (8, 48), None),
        ("square", (49,), None),
        ("as_is", (), ()),
        ("conv", (10**6, 10**6, 3, 3), (3, 3, 10**6, 10**6)),
        ("as_is", (2**40, 2**40), None),
    ],
)
def test_shapes_are_known_before_values_are_read(name, shape, expected):
    assert shape_after(name, shape) == expected


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_casts_round_as_torch_rounds(dtype):
    values = np.concatenate([_normal(1000), [0, -0.0, np.inf, -np.inf, np.nan]])
    expected = torch.tensor(values).to(getattr(torch, dtype))
    found = cast(values, dtype)
    assert found.dtype.name == dtype
    np.testing.assert_array_equal(found.astype(np.float64), expected.double())


@pytest.mark.parametrize(
    ("value", "dtype"), [(1e5, "float16"), (3.4e38, "bfloat16"), (1e39, "float32")]
)
def test_values_that_would_become_infinite_are_refused(value, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cast(np.array([1.0, -value, np.inf]), dtype) is None


def test_casts_are_in_c_order_and_copy_only_what_changes():
    kernel = _normal(3, 4)
    assert cast(kernel, "float32") is kernel
    turned = cast(kernel.T, "float32")
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, kernel.T)
