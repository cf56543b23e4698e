import itertools
from unittest import mock

import jax
import numpy as np
import pytest
from tiny_training import build_tiny, tiny_config

from fusionproxy_jax.training import build
from fusionproxy_jax.training.step_cost import step_cost
from fusionproxy_jax.training.timed_step import TimedStep


@pytest.fixture(scope="module", params=["pmap", "jit"])
def step(request):
    """The step of the tiny student on one device."""
    with mock.patch.object(build, "build_student", build_tiny):
        return TimedStep(tiny_config(parallel=request.param), devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def counted():
    """The same step's cost from shapes alone."""
    with mock.patch.object(build, "build_student", build_tiny):
        return step_cost(tiny_config())


def test_a_step_is_compiled_once_and_never_again(step):
    compiled = []

    def listen(event, seconds, **details):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        step.run()
        step.run_ahead(itertools.repeat(step.batch), 3)
        assert compiled == []
        # It listens.
        jax.jit(lambda x: 3.0 * x + len(compiled))(1.0)
        assert compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert step.compile_seconds > 0


def test_every_step_moves_the_state_and_frees_the_last_one(step):
    before, number = step._state, int(np.ravel(step._state.step)[0])
    step.run()
    step.run_ahead(itertools.repeat(step.batch), 2)
    assert int(np.ravel(step._state.step)[0]) == number + 3
    leaves = jax.tree.leaves(before)
    assert all(leaf.is_deleted() for leaf in leaves)
    # All of the state is updated in place.
    assert step.donated_bytes >= sum(leaf.nbytes for leaf in leaves)


def test_the_hosts_share_is_kept_for_steps_that_are_waited_for(step):
    known = len(step.dispatch_ms)
    step.run()
    step.run_ahead(itertools.repeat(step.batch), 2)
    assert len(step.dispatch_ms) == known + 1 and step.dispatch_ms[-1] > 0


def test_counts_are_those_of_the_compiled_step(step, counted):
    assert step.flops == pytest.approx(counted.flops, rel=0.05)
    assert step.bytes_accessed > 0 and step.memory_bytes > step.donated_bytes
