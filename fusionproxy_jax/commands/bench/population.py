"""`fusionproxy bench training --members M`: a member's step, alone and among others."""

from collections.abc import Sequence
from typing import Any

from fusionproxy_jax.config import Config
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.latency import measure_rounds, summarize
from fusionproxy_jax.training.panel_features import PanelFeatures
from fusionproxy_jax.training.timed_population import TimedPopulation
from fusionproxy_jax.training.timed_step import TimedStep


def bench_population(
    config: Config,
    panel: PanelFeatures | None,
    *,
    num_members: int,
    at_once: Sequence[int],
    num_rounds: int,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns rows and lines of the time of one member's step.

    Args:
        config: Every member's run.
        panel: What they align to.
        num_members: Of the population.
        at_once: Numbers of members that a device vmaps, one population for each.
        num_rounds: Timed steps of each kind, taking turns.

    Raises:
        FusionProxyError: A number is below 1.
    """
    if num_members < 1 or min(at_once, default=1) < 1:
        raise FusionProxyError(
            f"--members is {num_members} and --members-at-once {list(at_once)}; both "
            "must be at least 1"
        )
    alone = TimedStep(config, panel=panel)
    populations = {
        number: TimedPopulation(
            config, num_members=num_members, members_at_once=number, panel=panel
        )
        for number in dict.fromkeys(at_once)
    }
    calls = {number: each.run for number, each in populations.items()}
    rounds = measure_rounds(
        {"alone": alone.run, **calls},
        num_warmup=1,
        num_rounds=num_rounds,
        seed=config.seed,
    )
    alone_ms = summarize(rounds["alone"]).p50_ms
    rows = [
        {
            "members": 1,
            "at_once": 1,
            "member_step_ms": alone_ms,
            "times_alone": 1.0,
            "compile_seconds": alone.compile_seconds,
        }
    ]
    for number, each in populations.items():
        member_ms = summarize(rounds[number]).p50_ms / num_members
        rows.append(
            {
                "members": num_members,
                "at_once": number,
                "member_step_ms": member_ms,
                "times_alone": member_ms / alone_ms,
                "compile_seconds": each.compile_seconds,
            }
        )
    aligned = "" if panel is None else f", aligned to {', '.join(panel.backbones)}"
    lines = [
        f"one member's step{aligned}",
        f"{'members':<9}{'at once':>9}{'p50 ms':>10}{'times alone':>13}"
        f"{'compile s':>11}",
    ]
    lines += [
        f"{row['members']:<9}{row['at_once']:>9}{row['member_step_ms']:>10.1f}"
        f"{row['times_alone']:>13.2f}{row['compile_seconds']:>11.1f}"
        for row in rows
    ]
    return rows, lines
