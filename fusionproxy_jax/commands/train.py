"""`fusionproxy train`: distils a student from a teacher cache."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fusionproxy_jax.commands.processes import Processes
from fusionproxy_jax.commands.training_progress import run_and_report
from fusionproxy_jax.config import Config


@dataclass(frozen=True, kw_only=True)
class Train:
    """Distil a student from a teacher cache.

    Run the same command on the same --workdir to continue an interrupted run; Ctrl-C
    and SIGTERM save a checkpoint first. Every setting can be given, by a file with
    --config FILE and one by one (--loss.structure-weight 0.1).
    """

    # Folder made by `fusionproxy teach`.
    cache: Path
    # Folder of the run: checkpoints, metrics, pictures.
    workdir: Path
    # Project at Weights & Biases that gets metrics and pictures, too (extra `wandb`).
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    processes: Annotated[Processes, tyro.conf.arg(name="")] = field(
        default_factory=Processes
    )
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    def run(self) -> int:
        """Trains to the end, or to a signal: 0 after SIGTERM, 130 after Ctrl-C."""
        from fusionproxy_jax.training.loop import train

        self.processes.join()

        def tell(sentence: str) -> None:
            if self.processes.speaks:
                print(sentence, file=sys.stderr)

        return run_and_report(
            lambda show: train(
                self.config,
                self.cache,
                self.workdir,
                progress=show,
                tell=tell,
                wandb=self.wandb,
            ),
            made=f"student in {self.workdir}",
            speaks=self.processes.speaks,
        )
