"""What holds for every encoder, and for the students they make."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny_encoders import TINY_STUDENTS
from tiny_student import noise_pair, random_params

from fusionproxy_jax.evaluation.complexity import pair_shapes
from fusionproxy_jax.models.any_size import fuse_any_size
from fusionproxy_jax.models.encoders import build_encoder
from fusionproxy_jax.models.variants import (
    EFFICIENTFORMER_V2_S1,
    MOBILENET_V4_CONV_M,
    STUDENTS,
    build_student,
)

CONFIGS = {
    **STUDENTS,
    **{f"tiny {name}": config for name, config in TINY_STUDENTS.items()},
    "mobilenet_v4_conv_m": MOBILENET_V4_CONV_M,
    "efficientformer_v2_s1": EFFICIENTFORMER_V2_S1,
}
# Adding the same to all of a query's scores changes no softmax.
WITHOUT_EFFECT = ("['key']['norm']['bias']", "['before_softmax']['bias']")


def _unit_pair(height, width):
    return tuple(
        jnp.asarray(image, jnp.float32) / 255.0
        for image in noise_pair(1, height, width)
    )


@functools.cache
def _params(name):
    params = random_params(TINY_STUDENTS[name])
    for part, layers in params.items():
        if part.startswith("fuse"):
            # The few rectified units of a tiny head may all be off for the one image.
            layers["squeeze"]["bias"] = layers["squeeze"]["bias"] + 2.0
    return params


@pytest.mark.parametrize("name", CONFIGS)
def test_an_encoder_returns_halving_maps_finest_first(name):
    config = CONFIGS[name]
    encoder = build_encoder(config)
    for rows, columns in ((1, 1), (2, 3)):
        height, width = rows * encoder.stride, columns * encoder.stride
        image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
        features, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), image)
        scales = [
            config.stem_stride * 2**level for level in range(1 + len(config.widths))
        ]
        assert [f.shape for f in features] == [
            (2, height // scale, width // scale, channels)
            for scale, channels in zip(
                scales, (config.stem_width, *config.widths), strict=True
            )
        ]


@pytest.mark.parametrize("name", TINY_STUDENTS)
def test_every_parameter_learns(name):
    module = build_student(TINY_STUDENTS[name], grouped=True)
    pair = _unit_pair(module.stride, 2 * module.stride)

    @jax.jit
    def gradients(params):
        return jax.grad(
            lambda params: jnp.mean(module.apply({"params": params}, *pair) ** 2)
        )(params)

    grads = gradients(_params(name))
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all()
        key = jax.tree_util.keystr(path)
        if not key.endswith(WITHOUT_EFFECT):
            assert np.abs(grad).max() > 1e-9, key


@pytest.mark.parametrize("name", TINY_STUDENTS)
def test_an_untrained_student_returns_the_visible_image(name):
    module = build_student(TINY_STUDENTS[name], grouped=True)
    pair = _unit_pair(module.stride, module.stride)
    # The rest of a new network is left uncompiled; at random it is no less a test.
    last = jax.jit(lambda key: module.init(key, *pair)["params"]["decoder"]["to_rgb"])(
        jax.random.key(0)
    )
    params = {**_params(name)}
    params["decoder"] = {**params["decoder"], "to_rgb": last}
    fused = jax.jit(module.apply)({"params": params}, *pair)
    np.testing.assert_array_equal(fused, pair[0])


@pytest.mark.parametrize("name", TINY_STUDENTS)
def test_no_size_from_sixteen_pixels_on_is_refused(name):
    fuse = functools.partial(fuse_any_size, build_student(TINY_STUDENTS[name]))
    for size in ((16, 16), (17, 199), (200, 33)):
        fused = jax.eval_shape(fuse, _params(name), *pair_shapes(*size))
        assert fused.shape == (1, *size, 3)


def test_both_norms_take_the_same_parameters():
    for name, config in TINY_STUDENTS.items():
        shapes = []
        for normalization in ("layer", "affine"):
            module = build_student(
                dataclasses.replace(config, normalization=normalization)
            )
            pair = pair_shapes(module.stride, module.stride)
            shapes.append(jax.eval_shape(module.init, jax.random.key(0), *pair))
        assert shapes[0] == shapes[1], name
