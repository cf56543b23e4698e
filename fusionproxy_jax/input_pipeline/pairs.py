"""Pairs to make training data from: folders of images and prepared TFDS data sets.

A source is named by a string: the path of a folder (any layout that
`runtime.pairing.find_pairs` knows), or `tfds:NAME` or `tfds:NAME:SPLIT` for a data set
prepared with a builder in data/. The default split is `train`: official test splits are
never read unless they are asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.transforms import match_infrared
from fusionproxy_jax.runtime.images import (
    as_float_infrared,
    as_float_visible,
    read_infrared,
    read_visible,
)
from fusionproxy_jax.runtime.pairing import PairPaths, find_pairs

_TFDS_PREFIX = "tfds:"


@dataclass(frozen=True)
class _Pair:
    """One pair that is read when it is needed."""

    id: str
    group: str
    read: Callable[[], dict]


class PairSource:
    """Random access to pairs; reading pair i touches its own two images only.

    Items are dicts of id, group, visible uint8 [h, w, 3] RGB and infrared float32
    [h, w] in [0, 1], both of the visible image's size. Grey visible images come as RGB;
    16-bit and float infrared images are normalised (`runtime.thermal`).
    """

    def __init__(self, pairs: Sequence[_Pair]):
        self._pairs = list(pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict:
        pair = self._pairs[index]
        images = pair.read()
        visible = images["visible"]
        if visible.dtype != np.uint8:
            visible = np.round(255 * as_float_visible(visible)).astype(np.uint8)
        infrared = match_infrared(
            as_float_infrared(images["infrared"]), visible.shape[:2], pair_id=pair.id
        )
        return {
            "id": pair.id,
            "group": pair.group,
            "visible": visible,
            "infrared": infrared,
        }

    @property
    def ids_and_groups(self) -> list[tuple[str, str]]:
        """(id, group) of every pair, for `split_pairs`."""
        return [(pair.id, pair.group) for pair in self._pairs]

    def subset(self, indices: Sequence[int]) -> "PairSource":
        """Returns the pairs at `indices`, in that order."""
        return PairSource([self._pairs[index] for index in indices])


def load_pairs(
    sources: Sequence[str | Path], *, data_dir: Path | None = None
) -> PairSource:
    """Returns the pairs of all `sources`, in order.

    Args:
        sources: Folders, `tfds:NAME` or `tfds:NAME:SPLIT`.
        data_dir: Where prepared data sets lie; TFDS's own default otherwise, that is
            the environment variable TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
        FusionProxyError: There is no source, a source holds no pairs, a partner is
            missing, or two pairs have the same id.
    """
    if not sources:
        raise FusionProxyError(
            "no data source is given; name a folder of pairs or tfds:NAME"
        )
    pairs: list[_Pair] = []
    for source in sources:
        if str(source).startswith(_TFDS_PREFIX):
            pairs += _prepared_pairs(str(source), data_dir)
        else:
            pairs += [_folder_pair(paths) for paths in find_pairs(Path(source))]
    _reject_duplicates(pairs)
    return PairSource(pairs)


@dataclass(frozen=True)
class _ReadFiles:
    paths: PairPaths

    def __call__(self) -> dict:
        return {
            "visible": read_visible(self.paths.visible),
            "infrared": read_infrared(self.paths.infrared),
        }


def _folder_pair(paths: PairPaths) -> _Pair:
    return _Pair(id=paths.id, group=paths.group, read=_ReadFiles(paths))


def _prepared_pairs(source: str, data_dir: Path | None) -> list[_Pair]:
    """Returns the pairs of `tfds:NAME[:SPLIT]`."""
    # TFDS takes half a second to load and is needed by these sources only.
    from fusionproxy_jax.input_pipeline.prepared import (
        PreparedPairs,
        default_data_dir,
    )

    name, _, split = source.removeprefix(_TFDS_PREFIX).partition(":")
    records = PreparedPairs(name, split or "train", data_dir or default_data_dir())
    return [
        _Pair(*records.names(index), read=_ReadRecord(records, index))
        for index in range(len(records))
    ]


@dataclass(frozen=True)
class _ReadRecord:
    records: Sequence[dict]
    index: int

    def __call__(self) -> dict:
        return self.records[self.index]


def _reject_duplicates(pairs: Sequence[_Pair]) -> None:
    seen: set[str] = set()
    for pair in pairs:
        if pair.id in seen:
            raise FusionProxyError(
                f"pair {pair.id!r} comes twice; name every source once and give "
                "folders different names"
            )
        seen.add(pair.id)
