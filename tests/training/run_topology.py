"""Trains the same tiny run several ways in one process, or one of several processes.

Usage: run_topology.py FOLDER PORT INDEX COUNT CHANGES...; every CHANGES is JSON of
settings by their dotted names, and trains in FOLDER/<its number>. With PORT 0 there is
one process.
"""

import dataclasses
import json
import sys
from pathlib import Path
from unittest import mock

from tiny_training import TinyCache, build_tiny, tiny_config

from fusionproxy_jax.config import DataConfig
from fusionproxy_jax.training import build
from fusionproxy_jax.training.checkpoint import load_student
from fusionproxy_jax.training.loop import train
from fusionproxy_jax.training.processes import join_processes


def changed(config, changes):
    for dotted, value in changes.items():
        part, _, name = dotted.rpartition(".")
        if part:
            value = dataclasses.replace(getattr(config, part), **{name: value})
        config = dataclasses.replace(config, **{part or name: value})
    return config


def main() -> None:
    folder, port, index, count = sys.argv[1], *map(int, sys.argv[2:5])
    if port:
        join_processes(
            coordinator=f"localhost:{port}", process_index=index, process_count=count
        )
    # Six images: no number of devices here but one and two divides them.
    config = tiny_config(data=DataConfig(batch_size=6, crop_px=32), num_steps=5)
    for number, changes in enumerate(sys.argv[5:]):
        with mock.patch.object(build, "build_student", build_tiny):
            train(
                changed(config, json.loads(changes)),
                TinyCache(),
                Path(folder) / str(number),
            )
    if index == 0:
        # One process alone may read what all have written.
        load_student(Path(folder) / "0")


if __name__ == "__main__":
    main()
