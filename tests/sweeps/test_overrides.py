import math

import pytest

from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.overrides import override


def value_of(config, key):
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("num_steps=7", "num_steps", 7),
        ("optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
        ("loss.routing-temperature=inf", "loss.routing_temperature", math.inf),
        ("loss.routing=single:vgg16", "loss.routing", "single:vgg16"),
        ("data.flip=false", "data.flip", False),
        ("student.widths=8, 16,24", "student.widths", (8, 16, 24)),
        ("panel.backbones=", "panel.backbones", ()),
        ("start_from=base", "start_from", "base"),
        ("start_from=none", "start_from", None),
        ("loss.routing_temperature_end=0.5", "loss.routing_temperature_end", 0.5),
        ("compute_dtype=bfloat16", "compute_dtype", "bfloat16"),
        ("student.stem_stride=4", "student.stem_stride", 4),
        ("teacher.ddfm.num_steps=3", "teacher.ddfm.num_steps", 3),
        ("start_from=a=b", "start_from", "a=b"),
    ],
)
def test_a_value_is_read_by_the_type_of_its_field(text, key, value):
    found = value_of(override(Config(), [text]), key)
    assert found == value and type(found) is type(value)


def test_everything_else_stays():
    config = Config(num_steps=9)
    assert override(override(config, ["seed=3"]), ["seed=0"]) == config
    assert override(config, []) == config


def test_values_that_need_each_other_may_come_in_any_order():
    texts = ["loss.routing_temperature_end=2", "loss.routing=variance"]
    learned = override(Config(), ["loss.routing=learned"])
    for order in (texts, texts[::-1]):
        assert override(learned, order).loss.routing_temperature_end == 2.0


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["seed"], "'seed' is no KEY=VALUE"),
        (["=3"], "'=3' is no KEY=VALUE"),
        (
            ["loss.temprature=1"],
            "there is routing_temperature, routing_temperature_end",
        ),
        (
            ["loss.zzz=1"],
            "loss.zzz is no setting; instead of zzz there is pixel_weight",
        ),
        (["loss.routing_temprature=1"], "there is routing_temperature"),
        (["los.epsilon=1"], "los.epsilon is no setting; instead of los there is loss"),
        (["seed.deep=1"], "seed.deep is no setting: seed has no parts"),
        (["loss=1"], "loss is a group of settings; set one of loss.pixel_weight"),
        (["num_steps=1e3"], "num_steps=1e3 does not fit; num_steps is a whole number"),
        (["num_steps=none"], "num_steps is a whole number"),
        (["loss.epsilon=small"], "loss.epsilon is a number"),
        (["loss.epsilon=nan"], "loss.epsilon is a number"),
        (["data.flip=1"], "data.flip is true or false"),
        (["student.widths=8,x"], "values with commas between them, each a whole"),
        (["student.stem_stride=3"], "student.stem_stride is one of 2, 4"),
        (["loss.routing_temperature_end=x"], "is a number or none"),
        (["seed=1", "seed=2"], "gives seed twice"),
        (["loss.epsilon=-1"], "loss.epsilon is -1.0; it must be > 0"),
    ],
)
def test_what_cannot_be_set_is_one_sentence(texts, sentence):
    with pytest.raises(FusionProxyError, match=sentence) as caught:
        override(Config(), texts)
    assert "\n" not in str(caught.value)
