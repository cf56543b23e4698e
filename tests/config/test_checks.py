import dataclasses
import math
from typing import Literal

import numpy as np
import pytest

import fusionproxy_jax.config as configs
from fusionproxy_jax.config import (
    Config,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    StudentConfig,
    TeacherTrainingConfig,
)
from fusionproxy_jax.config.checks import INFINITE, check_types, settle_types
from fusionproxy_jax.errors import FusionProxyError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    hot: float = dataclasses.field(default=1.0, metadata=INFINITE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    count: int = 1
    on: bool = True
    name: str | None = None
    limit: float | None = None
    mode: Literal["a", "b"] = "a"
    level: Literal[0, 1] = 0
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[str, float] = ("x", 0.5)
    inner: Inner = dataclasses.field(default_factory=Inner)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": "100"}, "count is '100'; it must be a whole number"),
        ({"count": 1.0}, "count is 1.0; it must be a whole number"),
        ({"count": True}, "count is True; it must be a whole number"),
        ({"count": np.int64(3)}, "count is np.int64(3); it must be a whole number"),
        ({"on": 1}, "on is 1; it must be True or False"),
        ({"name": 3}, "name is 3; it must be a text or None"),
        ({"limit": "3"}, "limit is '3'; it must be a finite number or None"),
        ({"mode": "c"}, "mode is 'c'; it must be one of ('a', 'b')"),
        ({"mode": None}, "mode is None; it must be one of ('a', 'b')"),
        ({"level": True}, "level is True; it must be one of (0, 1)"),
        ({"level": 1.0}, "level is 1.0; it must be one of (0, 1)"),
        ({"sizes": 3}, "sizes is 3; it must be a tuple of whole numbers"),
        (
            {"sizes": (1, "2")},
            "sizes is (1, '2'); it must be a tuple of whole numbers",
        ),
        ({"sizes": "12"}, "sizes is '12'; it must be a tuple of whole numbers"),
        ({"pair": ("x",)}, "pair is ('x',); it must be a tuple of a text, a finite"),
        ({"inner": 5}, "inner is 5; it must be an Inner"),
        ({"inner": Inner(rate=None)}, "outer.inner.rate is None; it must be a finite"),
        ({"inner": Inner(rate=False)}, "outer.inner.rate is False; it must be"),
        ({"inner": Inner(rate=math.nan)}, "outer.inner.rate is nan; it must be"),
        ({"inner": Inner(rate=math.inf)}, "outer.inner.rate is inf; it must be a fin"),
        ({"inner": Inner(hot=math.nan)}, "hot is nan; it must be a number or infinity"),
    ],
)
def test_a_value_of_another_type_is_named_with_what_is_allowed(values, sentence):
    with pytest.raises(FusionProxyError) as caught:
        check_types(Outer(**values), "outer.")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("outer.")


def test_whole_numbers_are_floats_and_lists_are_tuples():
    check_types(
        Outer(limit=3, sizes=[1, 2], pair=["x", 1], inner=Inner(hot=math.inf, rate=2))
    )
    check_types(Outer(sizes=(), name="n", limit=np.float64(0.5), level=1, mode="b"))


def test_lists_become_tuples_when_a_configuration_is_made():
    outer = Outer(sizes=[3, 4])
    settle_types(outer)
    assert outer.sizes == (3, 4)
    assert StudentConfig(widths=[8], depths=[1]) == StudentConfig(
        widths=(8,), depths=(1,)
    )
    assert hash(DataConfig(sources=["a"])) == hash(DataConfig(sources=("a",)))


@pytest.mark.parametrize("name", [n for n in configs.__all__ if n.endswith("Config")])
def test_the_defaults_of_every_configuration_have_the_types_of_their_fields(name):
    check_types(getattr(configs, name)())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Config(num_steps="100"), "num_steps is '100'; it must be a whole"),
        (lambda: Config(parallel="mesh"), "parallel is 'mesh'; it must be one of"),
        (lambda: Config(start_from=3), "start_from is 3; it must be a text or None"),
        (lambda: Config(loss={"epsilon": 1}), "loss is {'epsilon': 1}; it must be a L"),
        (
            lambda: OptimizerConfig(learning_rate=None),
            "optimizer.learning_rate is None; it must be a finite number",
        ),
        (
            lambda: OptimizerConfig(gradient_clip=math.inf),
            "optimizer.gradient_clip is inf; it must be a finite number",
        ),
        (lambda: OptimizerConfig(warmup_steps=-1), "warmup_steps is -1; it must be >="),
        (lambda: DataConfig(sources="pairs"), "data.sources is 'pairs'; it must be"),
        (lambda: DataConfig(flip=0), "data.flip is 0; it must be True or False"),
        (lambda: LossConfig(epsilon=math.nan), "loss.epsilon is nan"),
        (lambda: LossConfig(routing_temperature=math.nan), "temperature is nan"),
        (lambda: LossConfig(routing=None), "loss.routing is None; it must be a text"),
        (lambda: StudentConfig(encoder="vgg"), "student.encoder is 'vgg'; it must be"),
        (lambda: StudentConfig(widths=(8.0,), depths=(1,)), "student.widths is (8.0,)"),
        (lambda: TeacherTrainingConfig(seed=1.5), "seed is 1.5; it must be a whole"),
        (lambda: Config(seed=2**32), "seed is 4294967296; it must be between 0"),
        (lambda: TeacherTrainingConfig(seed=-1), "seed is -1; it must be between 0"),
        (
            lambda: dataclasses.replace(Config(), log_every=0.5),
            "log_every is 0.5; it must be a whole number",
        ),
    ],
)
def test_a_configuration_with_such_a_value_cannot_be_made(make, sentence):
    with pytest.raises(FusionProxyError) as caught:
        make()
    assert sentence in str(caught.value)


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, -math.inf])
def test_a_temperature_at_which_eq_8_is_undefined_is_refused(temperature):
    with pytest.raises(FusionProxyError) as caught:
        LossConfig(routing_temperature=temperature)
    assert "must be > 0; take a small one such as 1e-3" in str(caught.value)


def test_an_infinite_temperature_is_uniform_routing_and_allowed():
    assert LossConfig(routing_temperature=math.inf).routing_temperature == math.inf
