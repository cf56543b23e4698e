"""Which backbones a teacher cache has features of, and what they are made with."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.shards import write_json

_FILE = "backbone.json"
FEATURES = "features"
# What caches have that do not state a target, and so what need not be stated.
MEAN_OF_FEATURES = "mean_of_features"
# A folder on any system: no separators, no hidden ones.
_NAME = re.compile(r"\w[\w.,@+=#-]*")


def features_folder(directory: Path, name: str) -> Path:
    """Returns where the features of the backbone `name` lie in a cache."""
    return directory / FEATURES / name


def begun_backbones(directory: Path) -> list[str]:
    """Returns the names of all whose features are in a cache, finished or not."""
    return sorted(
        path.parent.name for path in (directory / FEATURES).glob(f"*/{_FILE}")
    )


def without_usual_target(values: Mapping) -> dict:
    """Returns a backbone's JSON as it was before there were other targets."""
    usual = values["target"] == MEAN_OF_FEATURES
    return {k: v for k, v in values.items() if k != "target" or not usual}


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
    target: str = MEAN_OF_FEATURES
    """As in `PanelConfig`."""

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
        path = folder / _FILE
        with owned(path):
            if path.exists():
                self._require_same(path)
            else:
                write_json(path, without_usual_target(asdict(self)))
        return folder

    @classmethod
    def read(cls, path: Path) -> "Identity":
        """Reads backbone.json.

        Raises:
          FusionProxyError: it is damaged.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise FusionProxyError(
                f"{path} is damaged; delete {path.parent} and run the same "
                "`fusionproxy teach` again to make these features anew"
            ) from error

    def _require_same(self, path: Path) -> None:
        for key, was in asdict(Identity.read(path)).items():
            now = getattr(self, key)
            if was != now:
                raise FusionProxyError(
                    f"{path.parent} holds features of another {self.name} (its {key} "
                    f"was {was}, now it is {now}); delete that folder to make them "
                    "anew, or choose another --cache folder"
                )


def require_one_kind(
    directory: Path, names: Collection[str], *, grid: int, target: str
) -> None:
    """Refuses a common grid or target that the cache's other backbones have not.

    The loss of training compares the variances of all of them position by position,
    and a panel of mixed targets is none that anybody can name.

    Args:
      directory: the cache's folder.
      names: backbones that are to be made; `Identity.begin` looks at their own.
      grid: side of the grid they are to be made on.
      target: what they are to be made for.

    Raises:
      FusionProxyError: there is a backbone on another grid or of another target, or
        its backbone.json is damaged.
    """
    for name in begun_backbones(directory):
        if name in names:
            continue
        folder = features_folder(directory, name)
        found = Identity.read(folder / _FILE)
        if found.grid != grid:
            raise FusionProxyError(
                f"the teacher cache in {directory} has {name} on a grid of "
                f"{found.grid}, and panel.grid is {grid}; the backbones of a cache "
                f"share one grid, so give --panel.grid {found.grid}, or delete {folder}"
            )
        if found.target != target:
            raise FusionProxyError(
                f"the teacher cache in {directory} has {name} with the target "
                f"{found.target}, and panel.target is {target}; the backbones of a "
                f"cache share one target, so give --panel.target {found.target}, or "
                f"delete {folder}"
            )
