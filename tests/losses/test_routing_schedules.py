import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.losses.routing_schedules import (
    annealed,
    as_schedule,
    constant,
    per_backbone,
)

SHAPES = ("cosine", "linear", "geometric")


def along(schedule, steps=range(0, 101, 10)):
    return np.array([schedule(step) for step in steps])


def test_a_constant_never_changes():
    np.testing.assert_array_equal(along(constant(0.3)), np.full(11, 0.3, np.float32))
    assert constant(math.inf)(5) == math.inf


@pytest.mark.parametrize("shape", SHAPES)
def test_annealing_begins_and_ends_exactly_where_it_is_told(shape):
    schedule = annealed(3.0, 0.25, 100, shape=shape)
    assert schedule(0) == 3.0
    assert schedule(100) == schedule(7000) == 0.25


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_annealing_to_zero_arrives_at_exactly_zero(shape):
    assert annealed(2.0, 0.0, 50, shape=shape)(50) == 0.0


def test_the_shapes_are_their_formulas():
    progress = np.linspace(0, 1, 11)
    expected = {
        "linear": 2 - 1.5 * progress,
        "geometric": 2 * (0.5 / 2) ** progress,
        "cosine": 0.5 + 1.5 * (1 + np.cos(np.pi * progress)) / 2,
    }
    for shape, values in expected.items():
        schedule = annealed(2.0, 0.5, 100, shape=shape)
        np.testing.assert_allclose(along(schedule), values, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_may_be_traced_and_swept_by_vmap(shape):
    starts, ends = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.1, 0.2, 4.0])
    lengths, steps = jnp.array([10, 20, 30]), jnp.array([5, 7, 31])
    swept = jax.jit(jax.vmap(lambda a, b, n, t: annealed(a, b, n, shape=shape)(t)))(
        starts, ends, lengths, steps
    )
    expected = [
        annealed(float(a), float(b), int(n), shape=shape)(int(t))
        for a, b, n, t in zip(starts, ends, lengths, steps, strict=True)
    ]
    np.testing.assert_allclose(swept, expected, rtol=1e-5)


def test_a_schedule_per_backbone_gives_a_vector():
    schedule = per_backbone([0.5, annealed(1.0, 3.0, 10, shape="linear"), math.inf])
    np.testing.assert_array_equal(schedule(5), [0.5, 2.0, math.inf])


def test_a_number_is_a_constant_schedule_and_a_schedule_stays_itself():
    schedule = annealed(1.0, 2.0, 10)
    assert as_schedule(schedule) is schedule
    assert as_schedule(0.7)(123) == jnp.float32(0.7)


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        ((math.inf, 1.0, 10), "linear", "start of a linear schedule is inf"),
        ((1.0, math.nan, 10), "cosine", "end of a cosine schedule is nan"),
        ((1.0, 0.0, 10), "geometric", "end of a geometric schedule is 0.0; it must be"),
        ((1.0, 2.0, 0), "linear", "num_steps of a schedule is 0"),
    ],
)
def test_numbers_no_schedule_can_have_are_refused(arguments, shape, message):
    with pytest.raises(FusionProxyError, match=message):
        annealed(*arguments, shape=shape)
