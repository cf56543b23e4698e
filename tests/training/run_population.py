"""Trains the tiny population of the tests in one process, or one of several.

Usage: run_population.py FOLDER PORT INDEX COUNT; with PORT 0 there is one process.
"""

import sys
from pathlib import Path
from unittest import mock

from test_population import MEMBERS, folders
from tiny_training import TinyCache, build_tiny

from fusionproxy_jax.training import build
from fusionproxy_jax.training.population import train_population
from fusionproxy_jax.training.processes import join_processes


def main() -> None:
    root, port, index, count = Path(sys.argv[1]), *map(int, sys.argv[2:])
    if port:
        join_processes(
            coordinator=f"localhost:{port}", process_index=index, process_count=count
        )
    with mock.patch.object(build, "build_student", build_tiny):
        train_population(MEMBERS, TinyCache(), root / "program", folders(root))


if __name__ == "__main__":
    main()
