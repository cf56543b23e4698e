"""A training process to be killed: announces every step, and takes its time.

Usage: run_training.py WORKDIR SECONDS_PER_STEP CHANGES [PORT INDEX COUNT]; CHANGES is
JSON of settings, and with a port it is one of several processes.
"""

import json
import sys
import time
from pathlib import Path
from unittest import mock

from tiny_training import TinyCache, build_tiny, tiny_config

from fusionproxy_jax.training import build
from fusionproxy_jax.training.loop import train
from fusionproxy_jax.training.processes import join_processes


def main() -> int:
    workdir, seconds, changes, *processes = sys.argv[1:]
    if processes:
        port, index, count = map(int, processes)
        join_processes(
            coordinator=f"localhost:{port}", process_index=index, process_count=count
        )

    def announce(progress) -> None:
        print(progress.step, flush=True)
        time.sleep(float(seconds))

    config = tiny_config(**json.loads(changes))
    with mock.patch.object(build, "build_student", build_tiny):
        result = train(config, TinyCache(), Path(workdir), progress=announce)
    return 128 + result.signal_number if result.signal_number else 0


if __name__ == "__main__":
    sys.exit(main())
