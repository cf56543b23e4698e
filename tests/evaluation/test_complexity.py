import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from tiny_student import TINY, exported

from fusionproxy_jax.commands.describe import describe_student
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.complexity import complexity, multiply_adds
from fusionproxy_jax.evaluation.onnx_complexity import onnx_complexity
from fusionproxy_jax.models.depthwise import DepthwiseConv


def _image(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "expected"),
    [
        (nn.Dense(5), (2, 7), 7 * 5 + 5, 2 * 7 * 5),
        (
            nn.Conv(6, (3, 3), padding="SAME"),
            (1, 8, 10, 4),
            3 * 3 * 4 * 6 + 6,
            8 * 10 * 6 * 3 * 3 * 4,
        ),
        (
            nn.Conv(6, (4, 4), strides=(2, 2), padding=((1, 1), (1, 1))),
            (1, 8, 10, 3),
            4 * 4 * 3 * 6 + 6,
            4 * 5 * 6 * 4 * 4 * 3,
        ),
        (
            nn.Conv(6, (3, 3), feature_group_count=2, use_bias=False),
            (1, 8, 10, 4),
            3 * 3 * 2 * 6,
            8 * 10 * 6 * 3 * 3 * 2,
        ),
        (DepthwiseConv(grouped=True), (1, 8, 10, 4), 50 * 4, 8 * 10 * 4 * 49),
        (
            nn.ConvTranspose(6, (2, 2), strides=(2, 2)),
            (1, 8, 10, 4),
            2 * 2 * 4 * 6 + 6,
            8 * 10 * 4 * 2 * 2 * 6,
        ),
    ],
)
def test_single_layers_equal_hand_counts(layer, shape, parameters, expected):
    cost = complexity(layer, _image(*shape))
    assert (cost.parameters, cost.multiply_adds) == (parameters, expected)


def test_calls_loops_and_branches_are_counted():
    x = _image(3, 3)
    assert multiply_adds(jax.jit(lambda x: x @ x), x) == 27

    def five_times(x):
        return jax.lax.scan(lambda carry, _: (carry @ x, None), x, length=5)[0]

    assert multiply_adds(five_times, x) == 5 * 27

    def dearer_side(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert multiply_adds(dearer_side, x) == 2 * 27

    @jax.custom_vjp
    def product(x):
        return x @ x

    product.defvjp(lambda x: (x @ x, None), lambda _, cotangent: (cotangent,))
    assert multiply_adds(product, x) == 27


def test_a_loop_of_unknown_length_is_refused():
    def loop(x):
        return jax.lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ x, x)

    with pytest.raises(NotImplementedError, match="unknown length"):
        multiply_adds(loop, _image(3, 3))


def test_submodules_add_up_to_the_network():
    cost = describe_student(TINY, 32, 48)
    sizes, products = zip(*cost.by_module.values(), strict=True)
    assert sum(sizes) == cost.parameters
    assert sum(products) == cost.multiply_adds
    assert {"visible_encoder", "decoder", "fuse0"} < cost.by_module.keys()


def test_a_student_equals_its_onnx_file():
    cost = describe_student(TINY, 61, 83)
    for file in ("tiny.onnx", "tiny_camera.onnx"):
        parameters, products = onnx_complexity(exported() / file, height=61, width=83)
        # The file holds products with ones for means, fewer biases, and in each fusion
        # head the identities of its sum.
        assert products == pytest.approx(cost.multiply_adds, rel=0.02)
        identities = sum(2 * c**2 for c in (TINY.stem_width, *TINY.widths))
        assert parameters == pytest.approx(cost.parameters + identities, rel=0.02)
        assert products >= cost.multiply_adds


def test_a_bad_onnx_file_is_one_sentence(tmp_path):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((exported() / "tiny.onnx").read_bytes()[:1000])
    for path, words in [(tmp_path / "none.onnx", "no ONNX file"), (damaged, "damaged")]:
        with pytest.raises(FusionProxyError, match=words):
            onnx_complexity(path, height=32, width=32)
