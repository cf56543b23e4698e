"""Files of one backbone's features in a teacher cache, below features/NAME.

==========================  ========================================================
backbone.json               `Identity`, what they are made with; written first
moments-NNNNN.npz           `Moments` of the shard's tiles that the scale is taken on
shard-NNNNN.array_record    `feature_target/NAME` and `feature_deviation/NAME` of
                            every tile of the cache's shard, in its order
shard-NNNNN.json            what the mean variance needs of them; written before them
statistics.json             `CachedBackbone`; written last
==========================  ========================================================
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.panel_statistics.identity import (
    MEAN_OF_FEATURES,
    without_usual_target,
)
from fusionproxy_jax.teachers.shards import write_json, write_records


def moments_path(folder: Path, number: int) -> Path:
    """Returns where the moments of a shard lie."""
    return folder / f"moments-{number:05d}.npz"


def statistics_path(folder: Path) -> Path:
    """Returns where what is known of a finished backbone lies."""
    return folder / "statistics.json"


@dataclass(frozen=True)
class ShardTotals:
    """What the mean variance of a backbone needs of one shard."""

    variance_sum: float
    num_values: int
    feature_grid: tuple[int, int]

    @classmethod
    def read(cls, path: Path) -> "ShardTotals | None":
        """Returns those of the features at `path`; None if missing or damaged."""
        try:
            found = cls(**json.loads(path.with_suffix(".json").read_text()))
            height, width = found.feature_grid
            return cls(
                float(found.variance_sum), int(found.num_values), (height, width)
            )
        except (OSError, ValueError, TypeError):
            return None


def write_features(path: Path, records: Sequence[bytes], totals: ShardTotals) -> None:
    """Writes a shard's totals, then its features.

    Raises:
      FusionProxyError: the files cannot be written.
    """
    write_json(path.with_suffix(".json"), asdict(totals))
    write_records(path, records)


def is_extracted(path: Path) -> bool:
    """Returns whether the features at `path` need not be made."""
    return path.exists() and ShardTotals.read(path) is not None


@dataclass(frozen=True, eq=False)
class CachedBackbone:
    """A backbone whose features of all tiles are in a cache."""

    name: str
    fingerprint: str
    """As that of the `Backbone` they were made with."""
    scale: np.ndarray
    """Features are divided by it, float32 [c]; inf for silent channels (`moments`)."""
    mean_variance: float
    """Mean of Eq. 6's variance over all tiles and positions, for Eq. 8."""
    grid: int
    """Side of the common grid the variance is on."""
    feature_grid: tuple[int, int]
    """Height and width of the backbone's own grid, that of the targets."""
    target: str = MEAN_OF_FEATURES
    """As in `PanelConfig`."""

    @property
    def num_channels(self) -> int:
        """Channels of the features."""
        return len(self.scale)

    @property
    def num_silent(self) -> int:
        """Channels that count nothing."""
        return int(np.isinf(self.scale).sum())

    @property
    def digest(self) -> str:
        """16 hex digits; others where features of the same name were taught anew."""
        settings = f"{self.fingerprint}|{self.grid}|{self.mean_variance!r}|"
        if self.target != MEAN_OF_FEATURES:
            settings += f"{self.target}|"
        data = settings.encode() + self.scale.astype("<f4").tobytes()
        return hashlib.sha256(data).hexdigest()[:16]

    @property
    def bytes_per_tile(self) -> int:
        """What target and deviation of one tile take as float16."""
        height, width = self.feature_grid
        return 2 * (height * width * self.num_channels + self.grid**2)

    def write(self, folder: Path) -> None:
        """Writes statistics.json.

        Raises:
          FusionProxyError: it cannot be written.
        """
        path = statistics_path(folder)
        values = without_usual_target(asdict(self)) | {
            # JSON has no infinity.
            "scale": [one if np.isfinite(one) else None for one in self.scale.tolist()],
            "num_channels": self.num_channels,
            "bytes_per_tile": self.bytes_per_tile,
        }
        with owned(path):
            write_json(path, values)

    @classmethod
    def read(cls, folder: Path) -> "CachedBackbone | None":
        """Returns what `write` wrote; None if it is missing or damaged."""
        try:
            values = json.loads(statistics_path(folder).read_text())
            height, width = values["feature_grid"]
            return cls(
                name=values["name"],
                fingerprint=values["fingerprint"],
                scale=np.array(
                    [np.inf if one is None else one for one in values["scale"]],
                    np.float32,
                ),
                mean_variance=float(values["mean_variance"]),
                grid=int(values["grid"]),
                feature_grid=(height, width),
                target=values.get("target", MEAN_OF_FEATURES),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
