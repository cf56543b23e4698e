"""Joining the processes of one run, on several hosts or on one.

JAX finds them itself on TPU pods and under SLURM and Open MPI; elsewhere each is told
where the first one listens. It must happen before JAX is asked for a device.
"""

import os
from collections.abc import Mapping
from typing import Literal

import jax

from fusionproxy_jax.errors import FusionProxyError

Distributed = Literal["auto", "on", "off"]

# Environment variables that launchers set to the number of processes of a job's step.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
# And the names of all hosts of a TPU slice.
_TPU_HOSTS = "TPU_WORKER_HOSTNAMES"


def join_processes(
    distributed: Distributed = "auto",
    *,
    coordinator: str | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Joins this process to the others of its run, if there are others.

    Args:
        distributed: "on" has JAX find them, "off" lets this process run alone, and
            "auto" is "on" where a launcher's environment tells of several.
        coordinator: HOST:PORT where process 0 listens; with the next two, for where no
            launcher is.
        process_index: Of this process, from 0.
        process_count: How many there are.
        environment: What the launcher says.

    Raises:
        FusionProxyError: Some but not all of the last three are given, or the others
            cannot be found.
    """
    given = [coordinator, process_index, process_count]
    if any(value is not None for value in given):
        _join_at(coordinator, process_index, process_count)
    elif distributed == "on" or (distributed == "auto" and _has_others(environment)):
        _initialize()


def _join_at(
    coordinator: str | None, process_index: int | None, process_count: int | None
) -> None:
    if coordinator is None or process_index is None or process_count is None:
        raise FusionProxyError(
            f"coordinator is {coordinator}, process_index {process_index} and "
            f"process_count {process_count}; give all three, or none where a launcher "
            "says them"
        )
    if not 0 <= process_index < process_count:
        raise FusionProxyError(
            f"process_index is {process_index}; of {process_count} processes it must "
            f"be 0 to {process_count - 1}"
        )
    _initialize(
        coordinator_address=coordinator,
        num_processes=process_count,
        process_id=process_index,
    )


def _initialize(**how: object) -> None:
    try:
        jax.distributed.initialize(**how)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise FusionProxyError(
            f"the other processes of this run cannot be found ({reason}); start all of "
            "them by SLURM, Open MPI or on a TPU pod, or give --coordinator HOST:PORT, "
            "--process-index and --process-count"
        ) from error


def _has_others(environment: Mapping[str, str]) -> bool:
    counts = [environment.get(name, "1") for name in _COUNTS]
    return any(
        count.isdigit() and int(count) > 1 for count in counts
    ) or "," in environment.get(_TPU_HOSTS, "")
