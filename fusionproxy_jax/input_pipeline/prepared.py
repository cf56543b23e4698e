"""Random access to pairs that a builder in data/ has prepared.

Reading needs the finished folder only, not the builder.
"""

import os
from pathlib import Path

import tensorflow_datasets as tfds

from fusionproxy_jax.errors import FusionProxyError


def default_data_dir() -> Path:
    """Returns TFDS's own folder: TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    fallback = Path("~/tensorflow_datasets").expanduser()
    return Path(os.environ.get("TFDS_DATA_DIR", fallback))


class PreparedPairs:
    """Random access to the prepared pairs of one split."""

    def __init__(self, name: str, split: str, data_dir: Path):
        directory = _newest_version(data_dir / name)
        builder = tfds.builder_from_directory(directory)
        if split not in builder.info.splits:
            raise FusionProxyError(
                f"{name} has no split {split!r}; name one as tfds:{name}:SPLIT, splits "
                f"are {', '.join(sorted(builder.info.splits))}"
            )
        missing = {"id", "group", "visible", "infrared"} - set(builder.info.features)
        if missing:
            raise FusionProxyError(
                f"{directory} has no feature {', '.join(sorted(missing))}; it must be "
                "prepared by a builder like those in data/"
            )
        skip = tfds.decode.SkipDecoding()
        self._images = builder.as_data_source(split)
        self._names = builder.as_data_source(
            split, decoders=dict.fromkeys(("visible", "infrared"), skip)
        )

    def __len__(self) -> int:
        return len(self._images)

    def names(self, index: int) -> tuple[str, str]:
        """Returns (id, group) of record `index` without decoding its images."""
        record = self._names[index]
        return record["id"].decode(), record["group"].decode()

    def __getitem__(self, index: int) -> dict:
        """Returns visible uint8 [h, w, 3] and infrared uint8 [h, w] of a record."""
        record = self._images[index]
        return {"visible": record["visible"], "infrared": record["infrared"][..., 0]}


def _newest_version(folder: Path) -> Path:
    """Returns the highest prepared version below the folder of a data set."""
    versions = [path.parent for path in folder.glob("*/dataset_info.json")]
    if not versions:
        raise FusionProxyError(
            f"no prepared data set in {folder}; run `fusionproxy prepare "
            f"data/{folder.name}`, or set TFDS_DATA_DIR to where it is"
        )
    return max(versions, key=lambda path: [int(n) for n in path.name.split(".")])
