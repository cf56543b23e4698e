"""What the TFDS builders in data/ share: the record of a pair, and how to run them.

Records are ArrayRecord, which gives random access. TFDS's default format, its command
line and its unpacking of archives need TensorFlow, so none of them is used here.
"""

import importlib
import io
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from PIL import Image

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.images import read_infrared, read_visible
from fusionproxy_jax.runtime.pairing import keyed, list_images, matched


def load_builder(recipe: Path) -> type["PairBuilder"]:
    """Returns the builder in the folder `recipe`, such as data/msrs.

    Raises:
        FusionProxyError: The folder holds no NAME_dataset_builder.py.
    """
    recipe = Path(recipe).resolve()
    module = f"{recipe.name}_dataset_builder"
    if not (recipe / f"{module}.py").is_file():
        raise FusionProxyError(
            f"{recipe} holds no {module}.py; name a folder such as data/msrs"
        )
    # TFDS takes the name of the data set from the name of the module.
    sys.path.insert(0, str(recipe))
    try:
        return importlib.import_module(module).Builder
    finally:
        sys.path.remove(str(recipe))


def prepare_pairs(
    recipe: Path, *, data_dir: Path, manual_dir: Path | None = None
) -> Path:
    """Prepares the data set of `recipe` unless it is there; returns its folder.

    Args:
        recipe: Folder of a builder, such as data/msrs.
        data_dir: Where prepared data sets lie.
        manual_dir: What was downloaded by hand, for data sets that ask for it.

    Raises:
        FusionProxyError: There is no such builder, files that must be downloaded by
            hand are missing, the download fails, or the release is not complete.
    """
    builder = load_builder(recipe)(data_dir=data_dir)
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if instructions and not (manual_dir and Path(manual_dir).is_dir()):
        raise FusionProxyError(
            f"{builder.name} has to be downloaded by hand and the folder given as "
            f"--manual-dir. {instructions}"
        )
    config = tfds.download.DownloadConfig(
        manual_dir=manual_dir, compute_stats=tfds.download.ComputeStatsMode.SKIP
    )
    try:
        builder.download_and_prepare(download_config=config)
    except OSError as error:
        raise FusionProxyError(f"could not prepare {builder.name}: {error}") from error
    return Path(builder.data_dir)


class PairBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the builders of infrared-visible pairs share.

    A builder names its folders and splits; each record is id and group (text), visible
    (the released file, RGB) and infrared (uint8, one channel, lossless).
    """

    DESCRIPTION: str
    HOMEPAGE: str
    CITATION: str
    LICENCE: str
    # Folders of one pair inside a split.
    VISIBLE_FOLDER: str
    INFRARED_FOLDER: str
    # Pairs of each official split, to notice a partial or changed download.
    NUM_PAIRS: dict[str, int]

    def __init__(self, *, file_format: str | None = None, **kwargs: object):
        super().__init__(file_format=file_format or "array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "group": tfds.features.Text(),
                    "visible": tfds.features.Image(shape=(None, None, 3)),
                    "infrared": tfds.features.Image(shape=(None, None, 1)),
                }
            ),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            license=self.LICENCE,
        )

    def unpack(self, archive: Path, name: str) -> Path:
        """Returns the folder `name` with the files of a zip archive, unpacked once."""
        folder = Path(self.data_path).parents[1] / "downloads" / "unpacked" / name
        if folder.is_dir():
            return folder
        # Unpacked under another name first: a folder that is there is complete.
        partial = folder.with_name(f"{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with zipfile.ZipFile(archive) as files:
                files.extractall(partial)
        except zipfile.BadZipFile as error:
            raise FusionProxyError(
                f"{archive} is damaged ({error}); delete it and download it again"
            ) from error
        partial.rename(folder)
        return folder

    def _generate_examples(
        self, root: Path, split: str, prefix: str = ""
    ) -> Iterator[tuple[str, dict]]:
        """Yields the pairs below `root`; ids are NAME/`prefix`stem."""
        pairs = _partners(Path(root), self.VISIBLE_FOLDER, self.INFRARED_FOLDER)
        if len(pairs) != self.NUM_PAIRS[split]:
            raise FusionProxyError(
                f"{root} holds {len(pairs)} pairs of {self.name} {split}; the release "
                f"has {self.NUM_PAIRS[split]}, so delete it, and what was downloaded, "
                "and prepare the data set again"
            )
        for stem, visible, infrared in pairs:
            pair_id = f"{self.name}/{prefix}{stem}"
            yield (
                pair_id,
                {
                    "id": pair_id,
                    "group": pair_id,
                    "visible": _released_bytes(visible),
                    "infrared": _png_bytes(infrared),
                },
            )


def _partners(
    root: Path, visible_folder: str, infrared_folder: str
) -> list[tuple[str, Path, Path]]:
    """Returns (stem, visible, infrared) of every two such folders below `root`."""
    pairs = []
    for folder in sorted(root.rglob(visible_folder)):
        partner = folder.parent / infrared_folder
        if folder.is_dir() and partner.is_dir():
            pairs += matched(keyed(list_images(folder)), keyed(list_images(partner)))
    return pairs


def _released_bytes(path: Path) -> io.BytesIO:
    """Returns the file itself, once it is known to be readable."""
    read_visible(path)
    return io.BytesIO(path.read_bytes())


def _png_bytes(path: Path) -> io.BytesIO:
    """Returns an infrared file as one-channel PNG: some are released as RGB."""
    buffer = io.BytesIO()
    Image.fromarray(read_infrared(path)).save(buffer, "PNG")
    return io.BytesIO(buffer.getvalue())
