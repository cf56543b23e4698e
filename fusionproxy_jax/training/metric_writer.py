"""Writes what a run measures and draws, to every place where people look for it."""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from fusionproxy_jax.runtime.images import read_visible
from fusionproxy_jax.training.logs.json_lines import JsonLines
from fusionproxy_jax.training.logs.tensorboard import TensorBoard
from fusionproxy_jax.training.logs.wandb import WandbRun


class MetricWriter:
    """Appends to `metrics.jsonl` and `tensorboard/` of a run's folder, and to W&B."""

    def __init__(
        self,
        workdir: Path,
        *,
        after_step: int,
        wandb: str | None = None,
        config: dict | None = None,
    ) -> None:
        """Continues after `after_step`; later rows of a killed run are dropped.

        Args:
            workdir: The run's folder.
            after_step: Last step that is kept; 0 begins anew.
            wandb: Project at Weights & Biases that gets everything too; None is none.
            config: Settings of the run, shown there.

        Raises:
            FusionProxyError: As `WandbRun`.
        """
        with ExitStack() as stack:
            self._lines = stack.enter_context(
                closing(JsonLines(workdir, after_step=after_step))
            )
            self._boards = [
                stack.enter_context(
                    closing(TensorBoard(workdir, after_step=after_step))
                )
            ]
            if wandb is not None:
                run = WandbRun(
                    workdir, after_step=after_step, project=wandb, config=config
                )
                self._boards.append(stack.enter_context(closing(run)))
            self._open = stack.pop_all()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row; readers of `metrics.jsonl` see it when this returns.

        Values that are not finite are null there.
        """
        values = {name: float(value) for name, value in values.items()}
        self._lines.write(step, values)
        for board in self._boards:
            board.write(step, values)

    def write_image(self, name: str, step: int, image: str | Path | np.ndarray) -> None:
        """Writes a picture: a file, or uint8 [h, w, 3].

        Raises:
            FusionProxyError: The file is no picture.
        """
        if isinstance(image, str | Path):
            image = read_visible(image)
        for board in self._boards:
            board.write_image(name, step, image)

    def close(self) -> None:
        """Flushes and closes everything."""
        self._open.close()
