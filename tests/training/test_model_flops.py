import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_step_cost import product_panel
from tiny_student import TINY
from tiny_training import tiny_config

from fusionproxy_jax.commands.describe import describe_student
from fusionproxy_jax.config import DataConfig, StudentConfig
from fusionproxy_jax.evaluation.complexity import (
    multiply_adds,
    pair_shapes,
    parameter_shapes,
)
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.training.model_flops import countable_student, model_flops
from fusionproxy_jax.training.panel_features import make_panel_features

CONFIG = tiny_config(student=TINY, data=DataConfig(batch_size=3, crop_px=32))
ULTRA_LIGHT = StudentConfig(
    encoder="ultra_light",
    stem_width=8,
    widths=(8, 16),
    depths=(1, 1),
    kernel_size=3,
    normalization="affine",
    activation="relu",
)


def test_the_forward_pass_is_that_of_the_network_description():
    flops = model_flops(CONFIG)
    described = describe_student(TINY, 32, 32)
    assert flops.student_forward == 2 * 3 * described.multiply_adds
    assert flops.panel == flops.panel_forward == 0
    assert flops.total == flops.student


@pytest.mark.parametrize("student", [TINY, ULTRA_LIGHT])
def test_both_ways_are_what_the_gradient_holds_and_nearly_three_forwards(student):
    config = dataclasses.replace(CONFIG, student=student)
    module, pair = countable_student(student), pair_shapes(32, 32, batch_size=3)

    def objective(params, *pair):
        return jnp.sum(module.apply({"params": params}, *pair))

    gradient = multiply_adds(
        jax.value_and_grad(objective), parameter_shapes(module, *pair), *pair
    )
    flops = model_flops(config)
    assert flops.student == 2 * gradient
    # The stem's inputs are images, which get no gradient.
    assert 2.6 < flops.student / flops.student_forward < 3.0


def test_the_batch_and_not_the_precision_changes_the_count():
    doubled = dataclasses.replace(CONFIG, data=DataConfig(batch_size=6, crop_px=32))
    half = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
    assert model_flops(doubled).student == 2 * model_flops(CONFIG).student
    assert model_flops(half) == model_flops(CONFIG)


def test_frozen_products_cost_two_forwards_and_nothing_for_being_computed_again():
    flops = model_flops(CONFIG, product_panel(5))
    forward = 2 * (3 * 5) * 3 * 32**2
    assert (flops.panel_forward, flops.panel) == (forward, 2 * forward)
    assert flops.total == flops.student + flops.panel
    assert flops.student == model_flops(CONFIG).student


def test_products_of_two_features_of_the_image_cost_three_forwards():
    def affinity(params, images):
        pixels = images.reshape(images.shape[0], -1, 3)
        return jnp.einsum("bic,bjc->bij", pixels, pixels)[..., None]

    panel = make_panel_features([Backbone("own", "", {}, affinity)], [np.ones(1)], [1])
    flops = model_flops(CONFIG, panel)
    assert flops.panel_forward == 2 * 3 * (32**2) ** 2 * 3
    assert flops.panel == 3 * flops.panel_forward
