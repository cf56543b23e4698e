"""What a run was made of, stored with it, and whether two runs are the same one."""

import json
from pathlib import Path

import jax

from fusionproxy_jax import __version__
from fusionproxy_jax.config import Config, config_hash, to_json
from fusionproxy_jax.config.identity import differences
from fusionproxy_jax.errors import FusionProxyError

# What may change between a run and its resumption: it only says when to report, or how
# the same numbers are computed.
_FREE = frozenset(
    {
        "log_every",
        "checkpoint_every",
        "picture_every",
        "keep_checkpoints",
        "parallel",
        "gradient_accumulation",
        "optimizer.sharded",
        "data.num_workers",
    }
)


def run_metadata(config: Config, *, cache_hash: str, cache_config: str) -> dict:
    """Returns what is stored beside the state, as plain JSON values."""
    return {
        "config": json.loads(to_json(config)),
        "config_hash": config_hash(config),
        "cache_hash": cache_hash,
        "cache_config": cache_config,
        "code_version": __version__,
        "jax_version": jax.__version__,
    }


def check_same_run(stored: dict, current: dict, *, workdir: Path) -> None:
    """Refuses to continue a run as a different one.

    Only fields that say when to report or how to compute may change. The number of
    steps may not: the cosine of the learning rate is drawn over it, so a longer run is
    another run from its first step on.

    Raises:
        FusionProxyError: A setting or the teacher cache differs; all are named.
    """
    found = differences(stored["config"], current["config"], ignored=_FREE)
    if stored["cache_hash"] != current["cache_hash"]:
        found.append("the teacher cache is another one")
    if stored.get("panel", {}) != current.get("panel", {}):
        found.append("the panel or its weights are others")
    if not found:
        return
    reason = (
        " (the learning rate's cosine depends on num_steps)"
        if any(text.startswith("num_steps ") for text in found)
        else ""
    )
    raise FusionProxyError(
        f"{workdir} holds a run with other settings: {'; '.join(found)}{reason}; "
        "give the old settings or another --workdir"
    )
