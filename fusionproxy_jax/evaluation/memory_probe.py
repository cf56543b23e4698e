"""The process that `memory` starts: fuses with one file, prints how far it grew.

Its argument is the request as JSON, its output the bytes by way of timing.
"""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from fusionproxy_jax.evaluation.candidates import END_TO_END, NETWORK, GraphFile
from fusionproxy_jax.evaluation.graph_images import camera_noise
from fusionproxy_jax.evaluation.runners import RunnerOptions

_NUM_RUNS = 2
"""An arena is laid out by the first run and may grow in the second."""


def resident_bytes(field: str) -> int | None:
    """Returns VmRSS (now) or VmHWM (peak) of this process; None beyond Linux.

    Not `resource.getrusage`: its peak begins with that of the process that started
    this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines)
    return 1024 * int(sizes[field].split()[0]) if field in sizes else None


def forget_peak() -> None:
    """Makes the present size the peak; imports may have needed more for a moment."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        # Some containers forbid it; the growth then comes out a few MB too large.
        pass


def growth(request: dict) -> dict[str, int]:
    """Returns the growth of this process in bytes; empty where it cannot be read."""
    importlib.import_module(request["runtime"])
    pair = camera_noise(*request["size"])
    forget_peak()
    before = resident_bytes("VmRSS")
    if before is None or resident_bytes("VmHWM") is None:
        return {}
    candidate = GraphFile(
        "",
        Path(request["path"]),
        runtime=request["runtime"],
        options=RunnerOptions(**request["options"]),
    )

    def peak_after(call: Callable[[], object]) -> int:
        for _ in range(_NUM_RUNS):
            call()
        return resident_bytes("VmHWM") - before

    # In this order, as the network alone needs less; its tensors are gone after it.
    return {
        NETWORK: peak_after(candidate.network_call(*pair)),
        END_TO_END: peak_after(candidate.end_to_end_call(*pair)),
    }


if __name__ == "__main__":
    print(json.dumps(growth(json.loads(sys.argv[1]))))
