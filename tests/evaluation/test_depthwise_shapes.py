import jax
import jax.numpy as jnp
from flax import linen as nn
from tiny_student import TINY

from fusionproxy_jax.evaluation.complexity import pair_shapes, parameter_shapes
from fusionproxy_jax.evaluation.depthwise_shapes import (
    DepthwiseShape,
    depthwise_shapes,
)
from fusionproxy_jax.models.depthwise import grouped_convolution, shifted_products
from fusionproxy_jax.models.variants import build_student


def _array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_each_use_is_counted_inside_calls_too():
    def network(x, wide, narrow):
        twice = jax.jit(lambda x: grouped_convolution(x, wide))
        return grouped_convolution(twice(twice(x)), narrow, 2)

    found = depthwise_shapes(
        network, _array(2, 8, 10, 4), _array(7, 7, 1, 4), _array(3, 3, 1, 4)
    )
    assert found == {
        DepthwiseShape(2, 8, 10, 4, kernel_size=7, stride=1): 2,
        DepthwiseShape(2, 8, 10, 4, kernel_size=3, stride=2): 1,
    }


def test_other_convolutions_and_shifted_products_are_none():
    x = _array(1, 8, 8, 4)
    for layer in (
        nn.Conv(4, (3, 3)),
        nn.Conv(4, (3, 3), feature_group_count=2),
        # Two filters a channel.
        nn.Conv(8, (3, 3), feature_group_count=4),
    ):
        params = jax.eval_shape(layer.init, jax.random.key(0), x)
        assert not depthwise_shapes(layer.apply, params, x)
    assert not depthwise_shapes(shifted_products, x, _array(7, 7, 1, 4))


def test_a_student_has_one_a_block_and_modality():
    pair = pair_shapes(32, 48, batch_size=3)
    module = build_student(TINY, grouped=True)
    params = parameter_shapes(module, *pair)
    found = depthwise_shapes(
        lambda params, *pair: module.apply({"params": params}, *pair), params, *pair
    )
    assert found == {
        DepthwiseShape(3, 8, 12, 8, kernel_size=7, stride=1): 2,
        DepthwiseShape(3, 4, 6, 16, kernel_size=7, stride=1): 2,
    }
