"""Files of one backbone's features in a teacher cache, below features/NAME.

==========================  ========================================================
backbone.json               what the features are made with; written first
moments-NNNNN.npz           `Moments` of the shard's tiles that the scale is taken on
shard-NNNNN.array_record    `feature_target/NAME` and `feature_deviation/NAME` of
                            every tile of the cache's shard, in its order
shard-NNNNN.json            what the mean variance needs of them; written before them
statistics.json             `CachedBackbone`; written last
==========================  ========================================================
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.shards import write_json, write_records

FEATURES = "features"
# A folder on any system: no separators, no hidden ones.
_NAME = re.compile(r"\w[\w.,@+=#-]*")


def features_folder(directory: Path, name: str) -> Path:
    """Returns where the features of the backbone `name` lie in a cache."""
    return directory / FEATURES / name


def moments_path(folder: Path, number: int) -> Path:
    """Returns where the moments of a shard lie."""
    return folder / f"moments-{number:05d}.npz"


def statistics_path(folder: Path) -> Path:
    """Returns where what is known of a finished backbone lies."""
    return folder / "statistics.json"


@dataclass(frozen=True)
class Identity:
    """What the features of one name are made with; others may not join them."""

    name: str
    fingerprint: str
    """Of weights, tap and input size."""
    grid: int
    """Side of the common grid."""
    scale_tiles: int
    """Tiles the scale is taken on."""

    def begin(self, directory: Path) -> Path:
        """Returns the backbone's folder in the cache; makes it if there is none.

        Raises:
          FusionProxyError: it holds features made with something else, or cannot be
            written.
        """
        if not _NAME.fullmatch(self.name):
            raise FusionProxyError(
                f"a backbone is named {self.name!r}; its features lie in a folder of "
                "that name, so give it letters, digits and -_.,@+=# only"
            )
        folder = features_folder(directory, self.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FusionProxyError(
                f"could not make {folder}: {error.strerror}"
            ) from error
        path = folder / "backbone.json"
        with owned(path):
            if path.exists():
                self._require_same(path)
            else:
                write_json(path, asdict(self))
        return folder

    def _require_same(self, path: Path) -> None:
        try:
            found = Identity(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise FusionProxyError(
                f"{path} is damaged; delete {path.parent} and run the same "
                "`fusionproxy teach` again to make these features anew"
            ) from error
        for key, was in asdict(found).items():
            now = getattr(self, key)
            if was != now:
                raise FusionProxyError(
                    f"{path.parent} holds features of another {self.name} (its {key} "
                    f"was {was}, now it is {now}); delete that folder to make them "
                    "anew, or choose another --cache folder"
                )


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
    """Standard deviation of every channel, float32 [c]; features are divided by it."""
    mean_variance: float
    """Mean of Eq. 6's variance over all tiles and positions, for Eq. 8."""
    grid: int
    """Side of the common grid the variance is on."""
    feature_grid: tuple[int, int]
    """Height and width of the backbone's own grid, that of the targets."""

    @property
    def num_channels(self) -> int:
        """Channels of the features."""
        return len(self.scale)

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
        values = asdict(self) | {
            "scale": self.scale.tolist(),
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
                scale=np.array(values["scale"], np.float32),
                mean_variance=float(values["mean_variance"]),
                grid=int(values["grid"]),
                feature_grid=(height, width),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
