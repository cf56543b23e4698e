import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.models.layer_style import LayerStyle
from fusionproxy_jax.models.relative_attention import (
    HEADS,
    MapAttention,
    RelativeBias,
)


def _random(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return jnp.asarray(generator.standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("step", [1, 2])
def test_a_bias_is_the_table_at_the_distance_or_at_its_end(step):
    reach, queries, keys = 3, (2, 4), (2 * step, 4 * step)
    table = _random(HEADS, reach, reach)
    ours = RelativeBias(reach, step=step).apply(
        {"params": {"table": table}},
        jnp.zeros((1, *queries, 5)),
        jnp.zeros((1, *keys, 5)),
    )
    assert ours.shape == (1, HEADS, np.prod(queries), np.prod(keys))
    expected = np.empty((HEADS, *queries, *keys), np.float32)
    for row, column, key_row, key_column in np.ndindex(*queries, *keys):
        down = min(abs(step * row - key_row), reach - 1)
        right = min(abs(step * column - key_column), reach - 1)
        expected[:, row, column, key_row, key_column] = table[:, down, right]
    np.testing.assert_array_equal(ours[0], expected.reshape(ours.shape[1:]))


def test_places_of_a_map_may_be_mirrored():
    """Distances have no direction, and the depthwise kernels here are symmetric."""
    module = MapAttention(LayerStyle(normalization="affine", grouped=True))
    x = _random(1, 4, 6, 5)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    generator = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(
            generator.standard_normal(leaf.shape) / max(np.prod(leaf.shape[:-1]), 1),
            jnp.float32,
        ),
        shapes,
    )
    kernel = params["local_value"]["kernel"]
    params["local_value"]["kernel"] = kernel + kernel[:, ::-1]
    apply = jax.jit(module.apply)
    mirrored = apply({"params": params}, x[:, :, ::-1])
    expected = apply({"params": params}, x)[:, :, ::-1]
    np.testing.assert_allclose(mirrored, expected, rtol=1e-4, atol=1e-5)
    assert np.std(expected) > 1e-2
