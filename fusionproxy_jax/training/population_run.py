"""A population under way: its states, the files of its members, how it ends."""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from fusionproxy_jax.config import Config, to_json
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.training.build import Parts
from fusionproxy_jax.training.checkpoint import Checkpoints
from fusionproxy_jax.training.first_params import first_params
from fusionproxy_jax.training.interruption import stop_requests
from fusionproxy_jax.training.knobs import Knobs
from fusionproxy_jax.training.metric_writer import MetricWriter
from fusionproxy_jax.training.population_report import (
    PopulationProgress,
    PopulationReport,
)
from fusionproxy_jax.training.population_step import Member, Population
from fusionproxy_jax.training.reporting import Reporter
from fusionproxy_jax.training.run_identity import check_same_run
from fusionproxy_jax.training.state import empty_state_of, new_states
from fusionproxy_jax.training.stepping import Stepping, advance
from fusionproxy_jax.training.student_inputs import StudentInputs
from fusionproxy_jax.training.student_pictures import StudentPictures


@dataclass(frozen=True)
class PopulationResult:
    """How a population ended."""

    step: int
    """Updates made in all."""
    signal_number: int | None
    """The signal that came, if one did; perhaps in the last step."""
    died_at: Mapping[str, int | None]
    """Member -> step that was not finite; None of the living."""
    seconds_per_step: float | None
    """Of a step of all members, compilation left out; None where too few were made."""


@dataclass(frozen=True)
class PopulationRun:
    """A population made ready to run.

    Attributes:
        members: Name -> the member's run, on the data that all share.
        inputs: What they read.
        parts: What their common settings mean on any device.
        population: Their step on these devices.
        member_dirs: Name -> folder of the member's run.
    """

    members: Mapping[str, Config]
    inputs: StudentInputs
    parts: Parts
    population: Population
    member_dirs: dict[str, Path]

    def execute(
        self,
        workdir: Path,
        init_keys: jax.Array,
        progress: Callable[[PopulationProgress], None] | None,
        *,
        tell: Callable[[str], None],
        wandb: str | None,
    ) -> PopulationResult:
        """Trains to the end or to a signal, from the newest checkpoint if there is one.

        Args:
            workdir: Folder of the population's checkpoints.
            init_keys: The members' keys [m] for first parameters.
            progress: Called at every report.
            tell: Called with a sentence on first weights.
            wandb: Project at Weights & Biases.

        Raises:
            FusionProxyError: The folder holds other members, or a checkpoint cannot be
                read or written.
        """
        config = self.inputs.config
        with ExitStack() as stack:
            checkpoints = stack.enter_context(
                closing(Checkpoints(workdir, keep=config.keep_checkpoints))
            )
            start = checkpoints.latest_step() or 0
            everyone = self._first_members(checkpoints, workdir, init_keys, tell)
            writers: dict[str, MetricWriter] = {}
            if jax.process_index() == 0:
                writers = self._open_writers(stack, start, wandb)
            report = PopulationReport(
                tuple(self.members),
                writers,
                progress if jax.process_index() == 0 else None,
                died_at=everyone.died_at,
                num_steps=config.num_steps,
                batch_size=config.data.batch_size,
            )
            reporter = Reporter(self.population.fetch, report, start=start)
            stop = stack.enter_context(stop_requests())
            step, reached = advance(
                self._stepping(writers),
                self.population.place(everyone),
                start=start,
                rhythm=config,
                checkpoints=checkpoints,
                reporter=reporter,
                stop=stop,
            )
        if step == config.num_steps:
            self._hand_over(everyone if reached is None else reached)
        return PopulationResult(
            step=step,
            signal_number=stop.signal_number,
            died_at=report.died_at,
            seconds_per_step=report.seconds_per_step,
        )

    @property
    def _meta(self) -> dict:
        """What the population is made of, as `run_identity` compares it."""
        metas = {
            name: self.inputs.metadata(config) for name, config in self.members.items()
        }
        shared = next(iter(metas.values()))
        configs = {name: meta["config"] for name, meta in metas.items()}
        return {**shared, "config": configs, "config_hash": ""}

    def _first_members(
        self,
        checkpoints: Checkpoints,
        workdir: Path,
        init_keys: jax.Array,
        tell: Callable[[str], None],
    ) -> Member:
        """Returns the newest members, or new ones; on the host."""
        optimizer, num_members = self.parts.optimizer, len(self.members)
        if checkpoints.latest_step() is None:
            init_params = first_params(
                self.inputs.config,
                self.parts.init_params,
                tell=tell,
            )
            states = new_states(init_params, optimizer, init_keys)
            died_at = np.zeros(num_members, np.int32)
            return Member(jax.tree.map(np.asarray, states), died_at)
        check_same_run(checkpoints.read_meta(), self._meta, workdir=workdir)
        one = Member(
            empty_state_of(self.parts.init_params, optimizer), np.zeros((), np.int32)
        )
        return checkpoints.restore(
            jax.tree.map(lambda leaf: np.stack([leaf] * num_members), one)
        )

    def _open_writers(
        self, stack: ExitStack, start: int, wandb: str | None
    ) -> dict[str, MetricWriter]:
        writers = {}
        for name, config in self.members.items():
            folder = self.member_dirs[name]
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder / "config.json") as temporary:
                temporary.write_text(to_json(config) + "\n")
            writers[name] = stack.enter_context(
                closing(
                    MetricWriter(
                        folder,
                        after_step=start,
                        wandb=wandb,
                        config=dataclasses.asdict(config),
                    )
                )
            )
        return writers

    def _stepping(self, writers: Mapping[str, MetricWriter]) -> Stepping:
        population = self.population
        pictures = StudentPictures(self.inputs, self.parts.module)
        return Stepping(
            read=self.inputs.read,
            run=lambda placed, batch: population.run(
                placed, population.place_batch(batch)
            ),
            fetch=population.fetch,
            draw=lambda step, everyone: self._draw(pictures, writers, step, everyone),
            meta=self._meta,
        )

    def _draw(
        self,
        pictures: StudentPictures,
        writers: Mapping[str, MetricWriter],
        step: int,
        everyone: Member,
    ) -> None:
        for number, (name, writer) in enumerate(writers.items()):
            params = _member(everyone, number).state.ema_params
            routing = self.parts.route(Knobs.of(self.members[name]))
            folder = self.member_dirs[name] / "pictures"
            drawn = pictures.write(folder, step, params, routing)
            for kind, path in drawn.items():
                writer.write_image(kind, step, path)

    def _hand_over(self, everyone: Member) -> None:
        """Leaves every member's last finite state as a checkpoint of its own run."""
        for number, (name, config) in enumerate(self.members.items()):
            member = _member(everyone, number)
            with closing(Checkpoints(self.member_dirs[name], keep=1)) as checkpoints:
                reached = int(member.state.step)
                if checkpoints.latest_step() != reached:
                    meta = self.inputs.metadata(config)
                    checkpoints.save(reached, member.state, meta)


def _member(everyone: Member, number: int) -> Member:
    return jax.tree.map(lambda leaf: leaf[number], everyone)
