import jax
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.processes import join_processes


@pytest.fixture
def joined(monkeypatch):
    """How JAX was asked to join, if it was."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **how: calls.append(how))
    return calls


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_STEP_NUM_TASKS": "4"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"TPU_WORKER_HOSTNAMES": "host-0,host-1"},
    ],
)
def test_a_launcher_that_started_several_is_noticed(environment, joined):
    join_processes(environment=environment)
    assert joined == [{}]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        # A task of an array job is alone in its step.
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_ARRAY_TASK_COUNT": "12"},
        {"TPU_WORKER_HOSTNAMES": "host-0"},
    ],
)
def test_a_process_alone_joins_nobody(environment, joined):
    join_processes(environment=environment)
    assert joined == []


def test_what_is_noticed_can_be_overruled(joined):
    join_processes("off", environment={"SLURM_STEP_NUM_TASKS": "4"})
    assert joined == []
    join_processes("on", environment={})
    assert joined == [{}]


def test_processes_without_a_launcher_are_told_where_to_meet(joined):
    join_processes(coordinator="a:12", process_index=1, process_count=2)
    assert joined == [
        {"coordinator_address": "a:12", "num_processes": 2, "process_id": 1}
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"process_index": 0}, "give all three"),
        (
            {"coordinator": "a:1", "process_index": 2, "process_count": 2},
            "process_index is 2; of 2 processes it must be 0 to 1",
        ),
    ],
)
def test_half_a_meeting_point_is_refused(given, words, joined):
    with pytest.raises(FusionProxyError, match=words):
        join_processes(**given)
    assert joined == []


def test_others_that_cannot_be_found_are_one_sentence(monkeypatch):
    def fail(**how):
        raise ValueError("coordinator_address should be defined.\nand more")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(FusionProxyError, match=r"be found \(coordinator.*defined\.\)"):
        join_processes("on")
