import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.panel.sam_attention import in_windows, relative_positions


@pytest.mark.parametrize("side", [1, 5])
def test_relative_positions_are_rows_of_the_table_by_distance(side):
    table = np.random.default_rng(0).standard_normal((2 * side - 1, 3))
    table = table.astype(np.float32)
    found = relative_positions(jnp.asarray(table), side)
    for query in range(side):
        for key in range(side):
            np.testing.assert_allclose(
                found[query, key], table[query - key + side - 1], rtol=1e-6
            )


def test_resampled_relative_positions_keep_their_middle_and_order():
    # One number per distance: on a smaller map a step is a longer way.
    distances = jnp.arange(-7.0, 8.0).reshape(-1, 1)
    found = relative_positions(distances, 4)[..., 0]
    np.testing.assert_allclose(jnp.diag(found), 0, atol=1e-6)
    np.testing.assert_allclose(found, -found.T, atol=1e-6)
    np.testing.assert_allclose(jnp.diff(found[:, 0]), 15 / 7, rtol=1e-5)


def test_windows_are_told_apart_and_put_back():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 7, 4, 3)))
    seen = []

    def layer(windows):
        seen.append(windows)
        return 2 * windows

    np.testing.assert_array_equal(in_windows(layer, x, 3), 2 * x)
    (windows,) = seen
    assert windows.shape == (2 * 3 * 2, 3, 3, 3)
    np.testing.assert_array_equal(windows[7, :, :1], x[1, 0:3, 3:4])
    np.testing.assert_array_equal(windows[7, :, 1:], 0)
    np.testing.assert_array_equal(windows[10, 0], x[1, 6, 0:3])
    np.testing.assert_array_equal(windows[10, 1:], 0)
