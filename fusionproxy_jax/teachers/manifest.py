"""What a teacher cache was built from; decides if two builds may share a folder.

A network counts by its weights, not by the file they came from. A cache that takes its
samples from another one says from which (`samples_of`) and so has another hash than one
that draws them: its samples are the same but for the rounding to 8 bits they were kept
with, so the same folder must not get some of either kind. What later versions added is
left out of file and hash where it says what there was before.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.config.identity import flat_settings
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.teachers.tiles import Tile, tiles_of

# Raised when records change in a way old caches do not have.
FORMAT = 2
TILES_PER_SHARD = 16
# What caches had that do not state these teacher settings.
_BEFORE = MappingProxyType({"variance": "total"})


@dataclass(frozen=True)
class ImageEntry:
    """One training pair of a cache."""

    id: str
    height: int
    width: int
    # CRC-32 of the pixels of both images.
    crc32: int


@dataclass(frozen=True)
class Manifest:
    """Teachers and training pairs of a cache; everything else follows from these."""

    teacher: dict
    # Teacher -> what changes with its weights; empty where there are none.
    fingerprints: dict[str, str]
    images: tuple[ImageEntry, ...]
    format: int = FORMAT
    # Hash of the cache whose kept samples these are; None where they are drawn.
    samples_of: str | None = None

    @classmethod
    def of(
        cls,
        config: TeacherConfig,
        fingerprints: Mapping[str, str],
        images: Sequence[ImageEntry],
        *,
        samples_of: str | None = None,
    ) -> "Manifest":
        """Returns the manifest of teaching `images` with `config`."""
        # Through JSON, so that it equals what is read back (tuples become lists).
        teacher = json.loads(json.dumps(dataclasses.asdict(config)))
        return cls(teacher, dict(fingerprints), tuple(images), samples_of=samples_of)

    @property
    def hash(self) -> str:
        """16 hex digits that change with any teacher setting, weight, pair or pixel."""
        stated = self._stated
        values = {**stated, "teacher": _without_paths(flat_settings(stated["teacher"]))}
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def settings(self) -> dict:
        """Every teacher setting by its dotted name, but for the weights' paths."""
        return _without_paths(flat_settings(self.teacher))

    @property
    def tiles(self) -> list[tuple[int, Tile]]:
        """(image number, tile) of every record, in order."""
        return [
            (number, tile)
            for number, image in enumerate(self.images)
            for tile in tiles_of(
                image.height,
                image.width,
                self.teacher["tile_px"],
                most=self.teacher["tiles_per_image"],
            )
        ]

    def tile_id(self, number: int, tile: Tile) -> str:
        """Returns the id of a tile of an image."""
        return f"{self.images[number].id}@{tile.top},{tile.left}"

    @property
    def shards(self) -> list[list[tuple[int, Tile]]]:
        """The tiles of every shard."""
        tiles = self.tiles
        starts = range(0, len(tiles), TILES_PER_SHARD)
        return [tiles[start : start + TILES_PER_SHARD] for start in starts]

    def write(self, directory: Path) -> None:
        """Writes manifest.json."""
        values = {"hash": self.hash, **self._stated}
        with atomic_path(manifest_path(directory)) as temporary:
            temporary.write_text(json.dumps(values, indent=1, sort_keys=True))

    @property
    def _stated(self) -> dict:
        """All fields but those that say what there was before them."""
        values = dataclasses.asdict(self)
        values["teacher"] = {
            name: value
            for name, value in self.teacher.items()
            if name not in _BEFORE or value != _BEFORE[name]
        }
        if self.samples_of is None:
            del values["samples_of"]
        return values


def manifest_path(directory: Path) -> Path:
    """Returns where a cache's manifest lies."""
    return directory / "manifest.json"


def read_manifest(directory: Path) -> Manifest | None:
    """Returns the manifest of a cache; None if the folder holds none.

    Raises:
      FusionProxyError: the file is damaged or of another format.
    """
    path = manifest_path(directory)
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text())
        images = tuple(ImageEntry(**image) for image in values["images"])
        found_format = values["format"]
        if found_format == FORMAT:
            manifest = Manifest(
                {**_BEFORE, **values["teacher"]},
                values["fingerprints"],
                images,
                samples_of=values.get("samples_of"),
            )
            intact = values["hash"] == manifest.hash
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FusionProxyError(
            f"{path} is damaged; delete {directory} and build it again"
        ) from error
    if found_format != FORMAT:
        raise FusionProxyError(
            f"{directory} has cache format {found_format}, this version reads "
            f"{FORMAT}; build it again in another folder"
        )
    if not intact:
        raise FusionProxyError(
            f"{path} was edited: its hash does not fit; delete {directory} and build "
            "it again"
        )
    return manifest


def require_same(wanted: Manifest, found: Manifest, directory: Path) -> None:
    """Refuses to continue a cache that was begun with something else.

    Raises:
      FusionProxyError: names the first difference.
    """
    if wanted.hash == found.hash:
        return
    raise FusionProxyError(
        f"{directory} was built with another configuration "
        f"({first_difference(wanted, found)}); choose another --cache folder, or "
        "delete this one"
    )


def first_difference(wanted: Manifest, found: Manifest) -> str:
    """Returns in words what is first found to differ between two manifests."""
    new, old = wanted.settings, found.settings
    for name in sorted(new.keys() | old.keys()):
        if new.get(name) != old.get(name):
            return f"teacher.{name} was {old.get(name)!r}, now {new.get(name)!r}"
    for name, fingerprint in wanted.fingerprints.items():
        if found.fingerprints.get(name) != fingerprint:
            return f"teacher {name} had other weights"
    if len(wanted.images) != len(found.images):
        return f"it holds {len(found.images)} pairs, now there are {len(wanted.images)}"
    for new_image, old_image in zip(wanted.images, found.images, strict=True):
        if new_image.id != old_image.id:
            return f"pair {old_image.id!r} is now {new_image.id!r}"
        if new_image != old_image:
            return f"the images of pair {new_image.id!r} have changed"
    if wanted.samples_of != found.samples_of:
        old_way, new_way = map(_origin, (found.samples_of, wanted.samples_of))
        return f"its samples were {old_way}, now they are {new_way}"
    return "another format"


def _origin(samples_of: str | None) -> str:
    return "drawn" if samples_of is None else f"taken from cache {samples_of}"


def _without_paths(settings: Mapping) -> dict:
    return {k: v for k, v in settings.items() if not k.endswith(".weights")}
