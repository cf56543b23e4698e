"""Everything a report says of the members of a sweep, read from their folders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionproxy_jax.config.identity import flat_settings
from fusionproxy_jax.sweeps.folder import member_dir, read_sweep
from fusionproxy_jax.sweeps.member_files import (
    Status,
    read_metrics,
    read_scores,
    read_status,
)
from fusionproxy_jax.sweeps.settings import varied_settings

TEMPERATURE = "loss.routing_temperature"
# Settings that only repeat a run.
SEEDS = frozenset({"seed", "data.seed"})


@dataclass(frozen=True, kw_only=True)
class MemberRecord:
    """One member; what is not there is None or empty."""

    name: str
    directory: Path
    settings: Mapping[str, Any]
    """Every setting by its dotted name."""
    status: Status | None
    rows: Sequence[Mapping[str, float]]
    """Metrics by step, NaN once dead."""
    num_pairs: int | None
    scores: Mapping[str, float]

    @property
    def state(self) -> str:
        """The state in words."""
        if self.status is None:
            return "not begun"
        if self.status.state == "dead":
            return f"died at step {self.status.died_at}"
        if self.status.state == "finished":
            return "finished"
        return f"{self.status.state} at step {self.status.step}"

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done and good."""
        return self.status is not None and self.status.state == "finished"

    @property
    def last(self) -> Mapping[str, float]:
        """The last row whose loss is finite."""
        for row in reversed(self.rows):
            if math.isfinite(row.get("loss", math.nan)):
                return row
        return {}

    @property
    def seconds_per_member_step(self) -> float | None:
        """Seconds of a step of its program over the members in it."""
        status = self.status
        if status is None or not status.seconds_per_step or not status.num_members:
            return None
        return status.seconds_per_step / status.num_members

    @property
    def temperature(self) -> float | None:
        """Routing temperature of Eq. 8 at the end; None where it does not route."""
        if self.settings.get("loss.routing") != "variance":
            return None
        end = self.settings.get(f"{TEMPERATURE}_end")
        return self.settings.get(TEMPERATURE) if end is None else end


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """All members, and which settings tell them apart."""

    workdir: Path
    varied: tuple[str, ...]
    members: tuple[MemberRecord, ...]


def gather(workdir: Path) -> SweepRecord:
    """Returns what lies in the folder of a sweep.

    Raises:
        FusionProxyError: It holds no sweep.
    """
    configs = read_sweep(workdir)
    members = []
    for name, config in configs.items():
        directory = member_dir(workdir, name)
        scores = read_scores(directory)
        members.append(
            MemberRecord(
                name=name,
                directory=directory,
                settings=flat_settings(config),
                status=read_status(directory),
                rows=read_metrics(directory),
                num_pairs=None if scores is None else scores.num_pairs,
                scores={} if scores is None else scores.scores,
            )
        )
    varied = varied_settings(list(configs.values()))
    return SweepRecord(workdir=workdir, varied=varied, members=tuple(members))
