"""One pass over the samples of a cache that several processes share.

What a backbone makes of a shard is a file of its own. Whoever holds its lock makes it,
so every process may die at any moment, and others go on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.panel_statistics.backbone_statistics import (
    BackboneStatistics,
)
from fusionproxy_jax.teachers.part import Part

# (number of a shard, positions in it) to samples uint8 [s, h, w, 3] of each.
ReadSamples = Callable[[int, Sequence[int]], list[np.ndarray]]
# Called with (name of the pass, tiles done, tiles in all).
PassProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SharedPass:
    """What one pass sees of every shard, and what each backbone makes of it."""

    name: str
    positions: Mapping[int, Sequence[int]]
    """Shard to the tiles in it that are seen; in the order of work."""
    path: Callable[[BackboneStatistics, int], Path]
    """Where a backbone's file of a shard lies."""
    is_done: Callable[[Path], bool]
    make: Callable[
        [BackboneStatistics, int, Sequence[np.ndarray], Callable[[], None]], None
    ]
    """(backbone, shard, samples of its tiles, called after each) writes the file."""

    def run(
        self,
        panel: Sequence[BackboneStatistics],
        part: Part,
        read: ReadSamples,
        progress: PassProgress | None,
    ) -> None:
        """Makes what is missing; waits for others only where they work on `part`."""
        if not panel:
            return
        pending, done = dict(self.positions), 0
        total = sum(map(len, pending.values()))

        def tell(num_seen: int) -> None:
            if progress:
                # In tiles: one is done when every backbone has seen it.
                progress(self.name, done + num_seen // len(panel), total)

        tell(0)
        for wait in (False, True):
            for number, positions in list(pending.items()):
                if wait and not part.owns(number):
                    continue
                if self._make_shard(panel, number, read, tell, wait=wait):
                    del pending[number]
                    done += len(positions)
                    tell(0)

    def _make_shard(
        self,
        panel: Sequence[BackboneStatistics],
        number: int,
        read: ReadSamples,
        tell: Callable[[int], None],
        *,
        wait: bool,
    ) -> bool:
        """Returns whether the files of all backbones are there now."""
        positions = self.positions[number]
        samples: list[np.ndarray] | None = None
        finished, num_seen = True, 0

        def count_tile() -> None:
            nonlocal num_seen
            num_seen += 1
            tell(num_seen)

        for each in panel:
            path = self.path(each, number)
            if self.is_done(path):
                num_seen += len(positions)
                continue
            with owned(path, wait=wait) as mine:
                finished = finished and mine
                # Its former owner may have made it.
                if mine and not self.is_done(path):
                    if samples is None:
                        samples = read(number, positions)
                    self.make(each, number, samples, count_tile)
        return finished
