import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.models.depthwise import (
    DepthwiseConv,
    grouped_convolution,
    shifted_products,
)


def _case(size=7):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 6, 9, 3)).astype(np.float32)
    kernel = generator.standard_normal((size, size, 1, 3)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(kernel)


def _loops(x, kernel, stride=1):
    """Zero-padded correlation of every channel with its own kernel."""
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    out = np.zeros_like(x)
    for b, row, column, c in np.ndindex(x.shape):
        window = padded[
            b, row : row + kernel.shape[0], column : column + kernel.shape[1], c
        ]
        out[b, row, column, c] = np.sum(window * kernel[:, :, 0, c])
    return out[:, ::stride, ::stride]


@pytest.mark.parametrize("convolve", [shifted_products, grouped_convolution])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (7, 1), (5, 2)])
def test_each_form_equals_loops(convolve, size, stride):
    x, kernel = _case(size)
    ours = jax.jit(convolve, static_argnums=2)(x, kernel, stride)
    # A side of nine becomes one of five.
    np.testing.assert_allclose(ours, _loops(x, kernel, stride), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_both_forms_have_the_same_gradients(stride):
    x, kernel = _case(5)
    cotangent = _case()[0][:, ::stride, ::stride]

    def gradients(convolve):
        def total(x, kernel):
            return jnp.sum(convolve(x, kernel, stride) * cotangent)

        return jax.jit(jax.grad(total, argnums=(0, 1)))(x, kernel)

    for ours, reference in zip(
        gradients(shifted_products), gradients(grouped_convolution), strict=True
    ):
        np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-4)


def test_the_layer_adds_its_bias_in_either_form():
    x, kernel = _case()
    params = {"kernel": kernel, "bias": np.array([1.0, -2.0, 3.0], np.float32)}
    expected = _loops(x, kernel) + params["bias"]
    for grouped in (False, True):
        ours = DepthwiseConv(grouped=grouped).apply({"params": params}, x)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_an_affine_layer_behind_goes_into_kernel_and_bias():
    x, kernel = _case(3)
    layer, scale, shift = DepthwiseConv(3), np.array([2.0, -1.0, 0.5]), np.arange(3.0)
    params = {"kernel": kernel, "bias": np.array([1.0, -2.0, 3.0], np.float32)}
    affine = tuple(jnp.asarray(values, jnp.float32) for values in (scale, shift))
    ours = layer.apply({"params": params}, x, affine)
    expected = layer.apply({"params": params}, x) * scale.reshape(1, 1, 1, -1)
    np.testing.assert_allclose(
        ours, expected + shift.reshape(1, 1, 1, -1), rtol=1e-4, atol=1e-5
    )
