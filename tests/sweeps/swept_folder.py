"""A sweep's folder as tasks leave it, without any training."""

from collections.abc import Mapping
from pathlib import Path

from fake_population import add_row, draw, metrics_at

from fusionproxy_jax.config import Config
from fusionproxy_jax.evaluation.metrics import METRICS
from fusionproxy_jax.sweeps.folder import begin_sweep, member_dir
from fusionproxy_jax.sweeps.member_files import (
    Scores,
    Status,
    write_scores,
    write_status,
)


def leave_member(
    workdir: Path,
    name: str,
    config: Config,
    *,
    state: str = "finished",
    step: int = 4,
    qabf: float | None = None,
    pictures: bool = False,
    num_members: int = 4,
) -> None:
    """Writes the folder of a member; a dead one dies two steps before `step`."""
    directory = member_dir(workdir, name)
    dead = state == "dead"
    status = Status(
        state=state,
        step=step - 3 if dead else step,
        num_steps=config.num_steps,
        died_at=step - 2 if dead else None,
        program="feed",
        num_members=num_members,
        seconds_per_step=2.0,
        device="1 x cpu (cpu)",
    )
    write_status(directory, status)
    for one in range(1, step + 1):
        values = metrics_at(config, one, dead=dead and one >= step - 2)
        add_row(directory, one, values)
    if qabf is not None:
        scores = {**dict.fromkeys(METRICS, 1.0), "Qabf": qabf}
        write_scores(directory, Scores(num_pairs=3, scores=scores))
    if pictures:
        draw(directory, step, shade=40 * (config.seed % 5))


def leave_sweep(workdir: Path, members: Mapping[str, Config]) -> Path:
    """Writes sweep.json; returns the folder."""
    begin_sweep(workdir, members, cache_hash="feed")
    return workdir
