"""The fair ruler: candidates beside each other in one process, one table for all.

Every size is a group of its own in which all candidates take turns. A candidate of one
fixed size is timed at that size, and so are those that take any.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.candidates import NETWORK, Candidate
from fusionproxy_jax.evaluation.graph_images import camera_noise
from fusionproxy_jax.evaluation.image_graph import Size
from fusionproxy_jax.evaluation.latency import (
    Latency,
    measure_rounds,
    median_ratio,
    summarize,
)

if TYPE_CHECKING:
    from fusionproxy_jax.evaluation.onnx_complexity import GraphCost

TABLE_3_SIZES: tuple[Size, ...] = ((480, 640), (768, 1024))
"""The resolutions of the paper's Table 3."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One candidate at one size, batch 1.

    Attributes:
        candidate: Its name.
        size: Height x width.
        timed: `network` or `end to end`.
        min_ms: Of the rounds, as the next two.
        p50_ms: Median.
        p95_ms: 95th percentile.
        frames_per_second: At the median.
        ratio: Time over that of the first candidate, median of the rounds; None where
            the first candidate is not in this group.
        parameters: Of the graph; None where unknown, as the next four.
        multiply_adds: For one pair.
        weights: Element type of most parameters.
        share_of_gemm_peak: Arithmetic rate at the median over that of matrix products;
            of the network alone.
        peak_memory_bytes: Growth of a fresh process.
    """

    candidate: str
    size: str
    timed: str
    min_ms: float
    p50_ms: float
    p95_ms: float
    frames_per_second: float
    ratio: float | None
    parameters: int | None = None
    multiply_adds: int | None = None
    weights: str | None = None
    share_of_gemm_peak: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Rows in the order of sizes and candidates, and sentences on what is missing."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def measure_candidates(
    candidates: Sequence[Candidate],
    *,
    sizes: Sequence[Size] = TABLE_3_SIZES,
    num_warmup: int = 3,
    num_rounds: int = 20,
    seed: int = 0,
    memory: bool = True,
    gflop_per_second: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Measurement:
    """Returns one row per size, candidate and way of timing it.

    A candidate that cannot fuse a size is left out there, with a note.

    Args:
        candidates: Of different names; the first is the one to compare with.
        sizes: Height and width; the fixed sizes of candidates are added.
        num_warmup: Untimed calls of each.
        num_rounds: Timed calls of each.
        seed: Of the order within the rounds.
        memory: Measures the memory of ONNX files too, in processes of their own.
        gflop_per_second: The machine's rate of matrix products.
        clock: Seconds; tests pass their own.

    Raises:
        FusionProxyError: No candidate, two of one name, or none that fuses any size.
    """
    names = [candidate.name for candidate in candidates]
    if not names or len(set(names)) < len(names):
        raise FusionProxyError(
            f"the candidates are {', '.join(names) or 'none'}; give at least one, each "
            "with a name of its own"
        )
    rows, notes = [], []
    for size in _all_sizes(candidates, sizes):
        prepared, refused = _prepare(candidates, size)
        notes += refused
        calls = {
            (name, timed): call
            for name, named_calls in prepared.items()
            for timed, call in named_calls.items()
        }
        rounds = measure_rounds(
            calls, num_warmup=num_warmup, num_rounds=num_rounds, seed=seed, clock=clock
        )
        for candidate in candidates:
            if candidate.name not in prepared:
                continue
            cost, memory_bytes, unknown = _facts(candidate, size, memory=memory)
            notes += unknown
            for timed in prepared[candidate.name]:
                latency = summarize(rounds[candidate.name, timed])
                reference = rounds.get((names[0], timed))
                rows.append(
                    Row(
                        candidate=candidate.name,
                        size=format_size(size),
                        timed=timed,
                        **asdict(latency),
                        frames_per_second=latency.frames_per_second,
                        ratio=median_ratio(rounds[candidate.name, timed], reference)
                        if reference
                        else None,
                        **asdict(cost) if cost else {},
                        share_of_gemm_peak=_share(latency, cost, gflop_per_second)
                        if timed == NETWORK and candidate.shares_gemm_peak
                        else None,
                        peak_memory_bytes=memory_bytes.get(timed),
                    )
                )
    if not rows:
        raise FusionProxyError(f"nothing was measured: {notes[0]}")
    return Measurement(rows=tuple(rows), notes=tuple(dict.fromkeys(notes)))


def format_size(size: Size) -> str:
    """Returns height x width as on the command line."""
    return f"{size[0]}x{size[1]}"


def _all_sizes(candidates: Sequence[Candidate], sizes: Sequence[Size]) -> list[Size]:
    fixed = [candidate.fixed_size for candidate in candidates]
    return list(dict.fromkeys([*sizes, *filter(None, fixed)]))


def _prepare(
    candidates: Sequence[Candidate], size: Size
) -> tuple[dict[str, Mapping[str, Callable[[], object]]], list[str]]:
    """Returns the calls of those that fuse `size`, and why others do not."""
    pair = camera_noise(*size)
    prepared, notes = {}, []
    for candidate in candidates:
        fixed = candidate.fixed_size
        if fixed not in (None, size):
            notes.append(
                f"{candidate.name} takes {format_size(fixed)} only and is timed at "
                "that size"
            )
            continue
        try:
            prepared[candidate.name] = candidate.calls(*pair)
        except FusionProxyError as error:
            notes.append(
                f"{candidate.name} is left out at {format_size(size)}: {error}"
            )
    return prepared, notes


def _facts(
    candidate: Candidate, size: Size, *, memory: bool
) -> tuple["GraphCost | None", Mapping[str, int], list[str]]:
    """Returns cost and bytes by way of timing, and why one of them is unknown."""
    cost, memory_bytes, notes = None, {}, []
    try:
        cost = candidate.cost(*size)
    except FusionProxyError as error:
        notes.append(str(error))
    if memory:
        try:
            memory_bytes = candidate.peak_memory(*size)
        except FusionProxyError as error:
            notes.append(str(error))
    return cost, memory_bytes, notes


def _share(
    latency: Latency, cost: "GraphCost | None", gflop_per_second: float | None
) -> float | None:
    if gflop_per_second is None or cost is None or not cost.multiply_adds:
        return None
    return 2.0 * cost.multiply_adds / latency.p50_ms / 1e6 / gflop_per_second
