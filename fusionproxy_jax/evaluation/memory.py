"""Peak memory of one ONNX file, measured in a process of its own.

In one process candidates would hide each other: what one has freed the next one takes
without growth. Counted is by how much the resident memory grows beyond what Python, the
runtime's library and the camera's images take.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.runners import RunnerOptions, Runtime


def measure_peak_memory(
    path: Path, *, runtime: Runtime, options: RunnerOptions, height: int, width: int
) -> dict[str, int]:
    """Returns the bytes by which a fresh process grows, network and end to end.

    Empty on systems that do not tell a process its peak.

    Raises:
        FusionProxyError: The process failed, as for lack of memory.
    """
    request = {
        "path": str(path),
        "runtime": runtime,
        "options": dataclasses.asdict(options),
        "size": [height, width],
    }
    probe = "fusionproxy_jax.evaluation.memory_probe"
    done = subprocess.run(
        [sys.executable, "-m", probe, json.dumps(request)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise FusionProxyError(
            f"the memory of {path} at {height}x{width} was not measured: {lines[-1]}"
        )
    return json.loads(done.stdout)
