import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.evaluation.complexity import pair_shapes, parameter_shapes
from fusionproxy_jax.models.layer_style import LayerStyle
from fusionproxy_jax.models.ultra_light import SeparableConv, UltraLightEncoder
from fusionproxy_jax.models.variants import STUDENTS, build_student

STYLE = LayerStyle(normalization="affine", activation="relu", grouped=True)


def test_a_block_adds_its_input_only_where_shapes_agree():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 6, 3)), jnp.float32)
    for features, stride, adds in ((3, 1, True), (4, 1, False), (3, 2, False)):
        block = SeparableConv(STYLE, features, stride=stride)
        shapes = jax.eval_shape(block.init, jax.random.key(0), x)
        # A branch of zeros leaves the input, or nothing.
        params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
        y = block.apply(params, x)
        expected = x if adds else jnp.zeros((1, 4 // stride, 6 // stride, features))
        np.testing.assert_array_equal(y, expected)


def test_the_named_student_is_ultra_light():
    module = build_student(STUDENTS["ultra_light"])
    shapes = parameter_shapes(module, *pair_shapes(module.stride, module.stride))
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) < 0.4e6


def test_the_stem_sets_the_scale_of_all_features():
    image = jax.ShapeDtypeStruct((1, 32, 48, 3), jnp.float32)
    for stem_stride in (2, 4):
        encoder = UltraLightEncoder(STYLE, 4, (6,), (2,), stem_stride=stem_stride)
        features, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), image)
        assert [f.shape for f in features] == [
            (1, 32 // stem_stride, 48 // stem_stride, 4),
            (1, 16 // stem_stride, 24 // stem_stride, 6),
        ]
        assert encoder.stride == 2 * stem_stride
