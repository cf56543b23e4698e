"""Metrics and pictures for TensorBoard."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter


class TensorBoard:
    """Appends to `tensorboard/` of a run's folder."""

    def __init__(self, workdir: Path, *, after_step: int) -> None:
        """Continues after `after_step`; what a killed run logged later is hidden."""
        self._board = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=after_step + 1
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values that are numbers."""
        for name, value in values.items():
            # It would warn of every other one on stderr.
            if math.isfinite(value):
                self._board.add_scalar(name, value, step)

    def write_image(self, name: str, step: int, image: np.ndarray) -> None:
        """Writes a picture, uint8 [h, w, 3]."""
        self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes the file."""
        self._board.close()
