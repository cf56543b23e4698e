"""How many threads inference should use: the physical cores this process may occupy.

ONNX Runtime's own default counts the cores of the whole machine and binds threads to
them, which fails, noisily or slowly, in containers that may use only some.
"""

import os
from pathlib import Path


def num_physical_cores() -> int:
    """Returns the number of physical cores within affinity and container quota."""
    if hasattr(os, "sched_getaffinity"):
        logical = sorted(os.sched_getaffinity(0))
    else:
        logical = list(range(os.cpu_count() or 1))
    cores = {_siblings(index) for index in logical}
    return max(1, min(len(cores), _container_quota()))


def _siblings(index: int) -> str:
    """Returns the logical processors that share a core with `index`, as text."""
    topology = Path(f"/sys/devices/system/cpu/cpu{index}/topology")
    try:
        return (topology / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(index)


def _container_quota() -> int:
    """Returns the processors a control group allows, rounded up; many without limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):
        return os.cpu_count() or 1
