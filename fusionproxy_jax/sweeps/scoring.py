"""Fusion metrics of a trained member on the pairs that its training never saw."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.evaluation.metrics import METRICS, measure
from fusionproxy_jax.input_pipeline.pairs import PairSource, load_pairs
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.models.any_size import fuse_any_size
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.runtime.cores import num_physical_cores
from fusionproxy_jax.sweeps.member_files import Scores
from fusionproxy_jax.training.pictures import to_uint8

PyTree = Any


class HeldOutPairs:
    """The validation pairs of some data sources, to measure students on.

    A student is compiled once for every size of image, whatever its parameters.
    """

    def __init__(self, sources: Sequence[str], *, validation_fraction: float) -> None:
        """Finds the pairs; there are none without sources or with a fraction of 0.

        Raises:
            FusionProxyError: A source holds no pairs.
        """
        self._pairs = PairSource(())
        if sources and validation_fraction > 0:
            pairs = load_pairs(tuple(sources))
            _, held_out = split_pairs(pairs.ids_and_groups, validation_fraction)
            self._pairs = pairs.subset(held_out)
        self._compiled: dict[StudentConfig, Callable[..., jax.Array]] = {}

    def __len__(self) -> int:
        return len(self._pairs)

    def score(
        self,
        student: StudentConfig,
        params: PyTree,
        *,
        stop: Callable[[], bool] = lambda: False,
    ) -> Scores | None:
        """Returns means over all pairs, each fused with 8 bits at its full size.

        Args:
            student: The network.
            params: Its parameters.
            stop: Asked before every pair; None is returned when it says so.

        Raises:
            FusionProxyError: A pair cannot be read or measured.
        """
        if student not in self._compiled:
            self._compiled[student] = _compiled(student)
        fuse = self._compiled[student]

        def measured(index: int) -> dict[str, float] | None:
            return None if stop() else _measured(self._pairs[index], fuse, params)

        with ThreadPoolExecutor(num_physical_cores()) as executor:
            rows = list(executor.map(measured, range(len(self._pairs))))
        found = [row for row in rows if row is not None]
        if len(found) < len(rows) or not rows:
            return None
        means = {name: float(np.mean([row[name] for row in found])) for name in METRICS}
        return Scores(num_pairs=len(found), scores=means)


def _compiled(student: StudentConfig) -> Callable[..., jax.Array]:
    module = build_student(student)
    return jax.jit(lambda params, *pair: fuse_any_size(module, params, *pair))


def _measured(
    pair: dict[str, Any], fuse: Callable[..., jax.Array], params: PyTree
) -> dict[str, float]:
    visible, infrared = pair["visible"], to_uint8(pair["infrared"])
    fused = fuse(
        params,
        visible[None].astype(np.float32) / 255,
        infrared[None, ..., None].astype(np.float32) / 255,
    )
    return measure(to_uint8(np.asarray(fused)[0]), visible, infrared)
