import dataclasses
import json

import jax
import pytest

from fusionproxy_jax.config import StudentConfig, from_json, to_json
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.complexity import complexity, pair_shapes
from fusionproxy_jax.models import efficientformer_v2, mobilenet_v4
from fusionproxy_jax.models.variants import (
    EFFICIENTFORMER_V2_S1,
    MOBILENET_V4_CONV_M,
    STUDENTS,
    build_student,
    student_config,
)


def _repeat(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


# Multiply-adds at 480x640 and parameters; the other backbones are held to base's work.
_BUDGETS = {"nano": (1.0e9, 0.4e6), "small": (1.8e9, 1.3e6), "base": (10e9, 3e6)}


@pytest.mark.parametrize("name", STUDENTS)
def test_every_named_student_is_within_its_budget(name):
    module = build_student(STUDENTS[name], grouped=True, upsample=_repeat)
    cost = complexity(module, *pair_shapes(480, 640))
    multiply_adds, parameters = _BUDGETS.get(name, (10e9, 4e6))
    assert 0.5e9 < cost.multiply_adds <= multiply_adds
    assert cost.parameters <= parameters


def test_an_unknown_student_is_refused_by_name():
    with pytest.raises(FusionProxyError, match="'huge'.*base.*mobilenet_v4"):
        student_config("huge")
    assert student_config("base") == STUDENTS["base"] == StudentConfig()


def test_a_configuration_stored_before_there_were_other_encoders_is_base():
    stored = {
        "encoder": "convnext_v2",
        "stem_width": 24,
        "widths": [40, 80, 128],
        "depths": [2, 2, 3],
        "attention_reduction": 4,
    }
    assert from_json(StudentConfig, stored) == STUDENTS["base"]


@pytest.mark.parametrize("name", STUDENTS)
def test_every_named_configuration_survives_json(name):
    stored = json.loads(to_json(STUDENTS[name]))
    assert from_json(StudentConfig, stored) == STUDENTS[name]


def test_the_published_depths_are_all_of_the_published_blocks():
    mobile = [len(stage) for stage in mobilenet_v4.STAGES]
    assert MOBILENET_V4_CONV_M.depths == (1, *mobile)
    former = tuple(len(stage) for stage in efficientformer_v2.EXPANSIONS)
    assert EFFICIENTFORMER_V2_S1.depths == former
    for config in (MOBILENET_V4_CONV_M, EFFICIENTFORMER_V2_S1):
        *finer, last = config.depths
        with pytest.raises(FusionProxyError, match="at most"):
            dataclasses.replace(config, depths=(*finer, last + 1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder": "resnet"}, "encoder is 'resnet'.*mobilenet_v4"),
        ({"activation": "tanh"}, "activation is 'tanh'.*relu"),
        ({"stem_stride": 3}, "stem_stride is 3"),
        ({"kernel_size": 4}, "kernel_size is 4.*odd"),
        ({"expansion": 0}, "expansion is 0"),
        ({"widths": (8, 8), "depths": (1,)}, "depths"),
        ({"encoder": "ultra_light", "response_norm": False}, "only convnext_v2"),
        ({"encoder": "ultra_light", "expansion": 2}, "only convnext_v2"),
        (
            {"encoder": "mobilenet_v4", "depths": (1, 2, 3), "kernel_size": 3},
            "kernel_size is 3.*7 with the encoder mobilenet_v4",
        ),
        ({"encoder": "mobilenet_v4", "widths": (8,) * 5, "depths": (1,) * 5}, "depths"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(settings, words):
    with pytest.raises(FusionProxyError, match=words):
        StudentConfig(**settings)


def test_cheaper_settings_cost_less():
    def cost(**settings):
        module = build_student(
            StudentConfig(**settings), grouped=True, upsample=_repeat
        )
        return complexity(module, *pair_shapes(64, 96)).multiply_adds

    base = cost()
    for settings in (
        {"kernel_size": 3},
        {"expansion": 2},
        {"stem_stride": 4},
        {"decoder_join": "add"},
        {"decoder_separable": True},
    ):
        assert cost(**settings) < base, settings
    # Not counted, as usual: they cost passes over the maps.
    assert cost(response_norm=False, normalization="affine", activation="relu") == base


def test_equal_configurations_make_equal_networks():
    """What is compiled for one is found again for the other."""
    one, other = (build_student(StudentConfig()) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    jitted = jax.jit(lambda module: module.stride, static_argnums=0)
    assert jitted(one) == jitted(other) == 16
