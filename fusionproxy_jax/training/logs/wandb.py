"""Metrics and pictures for Weights & Biases, where it is asked for.

With WANDB_MODE=offline all stays in `wandb/` of the run's folder until `wandb sync`.
"""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path


class WandbRun:
    """A run there; one that is continued here is continued there."""

    def __init__(
        self,
        workdir: Path,
        *,
        after_step: int,
        project: str,
        config: Mapping[str, Any] | None,
    ) -> None:
        """Begins the run, or after step 0 goes on with it by the id in `workdir`.

        Raises:
            FusionProxyError: The package is missing, or it cannot begin (nobody is
                logged in, no network).
        """
        self._wandb = _import_wandb(project)
        try:
            self._run = self._wandb.init(
                project=project,
                id=_run_id(workdir, project, new=after_step == 0),
                name=workdir.name,
                dir=str(workdir),
                config=dict(config or {}),
                resume="allow",
                # Members of a population have a run each in one process.
                reinit="create_new",
                # A progress line that is redrawn would fill its log.
                settings=self._wandb.Settings(console="off"),
            )
        except self._wandb.Error as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise FusionProxyError(
                f"Weights & Biases did not begin a run of project {project!r} "
                f"({reason}); log in with `wandb login`, or set WANDB_MODE=offline"
            ) from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row."""
        self._log(step, values)

    def write_image(self, name: str, step: int, image: np.ndarray) -> None:
        """Writes a picture, uint8 [h, w, 3]."""
        self._log(step, {name: self._wandb.Image(image)})

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        # Steps made again after a kill are there, and equal; it would warn of each.
        if step >= self._run.starting_step:
            self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Ends the run, when all is sent or on the disk."""
        self._run.finish()


def _import_wandb(project: str) -> ModuleType:
    try:
        import wandb
    except ModuleNotFoundError:
        wandb = None
    # A folder of its logs in the working directory imports as an empty package.
    if not hasattr(wandb, "init"):
        raise FusionProxyError(
            f"Weights & Biases is asked for (project {project!r}), but its package is "
            "not installed; install fusionproxy-jax with its extra 'wandb', or leave "
            "it away"
        )
    return wandb


def _run_id(workdir: Path, project: str, *, new: bool) -> str:
    """Returns the id kept for this project, or one made and written down now."""
    path = workdir / "wandb.json"
    try:
        kept = json.loads(path.read_text())
        if kept["project"] == project and not new:
            return str(kept["id"])
    except (OSError, ValueError, KeyError, TypeError):
        # None is kept, or a kill cut it short.
        pass
    made = {"project": project, "id": secrets.token_hex(4)}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(made) + "\n")
    return made["id"]
