"""`fusionproxy train-teacher`: trains a compact teacher's network from scratch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fusionproxy_jax.commands.processes import Processes
from fusionproxy_jax.commands.training_progress import run_and_report
from fusionproxy_jax.config import TeacherTrainingConfig


@dataclass(frozen=True, kw_only=True)
class TrainTeacher:
    """Train the prior of DDFM, or compact Mask-DiFuser, on pairs.

    Run the same command on the same --workdir to continue an interrupted run; Ctrl-C
    and SIGTERM save a checkpoint first. `fusionproxy export-teacher` writes the
    averaged weights, which `fusionproxy teach` takes (--teacher.ddfm.weights FILE).
    """

    # Folder of the run: checkpoints, metrics, pictures of samples.
    workdir: Path
    processes: Annotated[Processes, tyro.conf.arg(name="")] = field(
        default_factory=Processes
    )
    config: Annotated[TeacherTrainingConfig, tyro.conf.arg(name="")] = field(
        default_factory=TeacherTrainingConfig
    )

    def run(self) -> int:
        """Trains to the end, or to a signal, whose number plus 128 is returned."""
        from fusionproxy_jax.training.teacher_run import train_teacher

        self.processes.join()
        return run_and_report(
            lambda show: train_teacher(self.config, self.workdir, progress=show),
            made=f"{self.config.teacher} in {self.workdir}",
            speaks=self.processes.speaks,
        )
