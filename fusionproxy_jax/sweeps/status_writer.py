"""Keeps the status files of a program's members while it trains."""

import dataclasses
import math
from pathlib import Path

from fusionproxy_jax.sweeps.folder import member_dir
from fusionproxy_jax.sweeps.member_files import Status, read_status, write_status
from fusionproxy_jax.sweeps.programs import Program
from fusionproxy_jax.training.population import PopulationProgress, PopulationResult


class StatusWriter:
    """Writes status.json of every member at every report and at the end."""

    def __init__(self, program: Program, workdir: Path, *, device: str) -> None:
        """Takes whose statuses to write, and the device they train on."""
        self._workdir = workdir
        self._statuses = {
            name: Status(
                state="running",
                step=0,
                num_steps=config.num_steps,
                died_at=None,
                program=program.id,
                num_members=len(program.members),
                seconds_per_step=_known_speed(member_dir(workdir, name)),
                device=device,
            )
            for name, config in program.members.items()
        }
        self._begun = False

    def report(self, progress: PopulationProgress) -> None:
        """Writes that members run, and which of them have died."""
        seconds = None
        if math.isfinite(progress.steps_per_second) and progress.steps_per_second > 0:
            seconds = 1.0 / progress.steps_per_second
        for name, status in self._statuses.items():
            self._write(
                name, _at(status, progress.step, progress.died_at[name], seconds)
            )

    def end(self, result: PopulationResult) -> None:
        """Writes how training ended."""
        for name, status in self._statuses.items():
            ended = _at(
                status, result.step, result.died_at[name], result.seconds_per_step
            )
            if ended.state != "dead":
                whole = result.step >= ended.num_steps
                state = "finished" if whole else "stopped"
                ended = dataclasses.replace(ended, state=state)
            self._write(name, ended)

    def break_off(self) -> None:
        """Writes that members stopped where they last were, if they ever began."""
        for name, status in self._statuses.items():
            if self._begun and status.state == "running":
                self._write(name, dataclasses.replace(status, state="stopped"))

    def _write(self, name: str, status: Status) -> None:
        self._begun = True
        self._statuses[name] = status
        write_status(member_dir(self._workdir, name), status)


def _at(
    status: Status, step: int, died_at: int | None, seconds: float | None
) -> Status:
    if seconds is None:
        seconds = status.seconds_per_step
    if died_at is None:
        return dataclasses.replace(status, step=step, seconds_per_step=seconds)
    return dataclasses.replace(
        status,
        state="dead",
        step=died_at - 1,
        died_at=died_at,
        seconds_per_step=seconds,
    )


def _known_speed(directory: Path) -> float | None:
    """Returns the speed an earlier process measured."""
    status = read_status(directory)
    return None if status is None else status.seconds_per_step
