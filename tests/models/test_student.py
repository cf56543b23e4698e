import functools

import jax
import jax.numpy as jnp
import numpy as np
from tiny_student import TINY, noise_pair, random_params

from fusionproxy_jax.evaluation.complexity import parameter_shapes
from fusionproxy_jax.models.any_size import fuse_any_size
from fusionproxy_jax.models.variants import build_student


def _unit_pair(batch_size, height, width):
    return tuple(
        jnp.asarray(image, jnp.float32) / 255.0
        for image in noise_pair(batch_size, height, width)
    )


def _apply(module, params, visible, infrared):
    return jax.jit(module.apply)({"params": params}, visible, infrared)


def test_any_size_is_the_padded_image_cropped_and_clipped():
    module, params = build_student(TINY, grouped=True), random_params()
    visible, infrared = _unit_pair(2, 17, 30)
    fused = jax.jit(functools.partial(fuse_any_size, module))(params, visible, infrared)
    assert fused.shape == visible.shape
    # By index, not by the library's padding: rows past the last repeat it.
    rows, columns = np.minimum(np.arange(24), 16), np.minimum(np.arange(32), 29)
    padded = [image[:, rows][:, :, columns] for image in (visible, infrared)]
    whole = np.asarray(_apply(module, params, *padded))
    assert whole.min() < 0.0 and whole.max() > 1.0
    np.testing.assert_allclose(
        fused, np.clip(whole[:, :17, :30], 0.0, 1.0), rtol=1e-5, atol=1e-6
    )


def test_both_depthwise_forms_give_the_same_student():
    params = random_params()
    visible, infrared = _unit_pair(1, 16, 24)
    fused = [
        _apply(build_student(TINY, grouped=grouped), params, visible, infrared)
        for grouped in (False, True)
    ]
    np.testing.assert_allclose(*fused, rtol=1e-4, atol=1e-5)


def test_bfloat16_computation_keeps_float32_parameters_and_output():
    module = build_student(TINY, grouped=True, dtype=jnp.bfloat16)
    visible, infrared = _unit_pair(1, 16, 24)
    params = parameter_shapes(module, visible, infrared)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    params = random_params()
    fused = _apply(module, params, visible, infrared)
    exact = _apply(build_student(TINY, grouped=True), params, visible, infrared)
    assert fused.dtype == jnp.float32
    # Eight bits of mantissa through about twenty layers.
    np.testing.assert_allclose(fused, exact, atol=0.1)
