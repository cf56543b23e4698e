"""A training process to be killed: announces every step, and takes its time.

Usage: run_training.py WORKDIR SECONDS_PER_STEP
"""

import sys
import time
from pathlib import Path
from unittest import mock

from tiny_training import TinyCache, build_tiny, tiny_config

from fusionproxy_jax.training import build
from fusionproxy_jax.training.loop import train


def main() -> int:
    def announce(progress) -> None:
        print(progress.step, flush=True)
        time.sleep(float(sys.argv[2]))

    with mock.patch.object(build, "build_student", build_tiny):
        result = train(tiny_config(), TinyCache(), Path(sys.argv[1]), progress=announce)
    return 128 + result.signal_number if result.signal_number else 0


if __name__ == "__main__":
    sys.exit(main())
