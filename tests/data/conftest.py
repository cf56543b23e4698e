"""Dummy releases of the data sets, made by the tests themselves."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fusionproxy_jax.input_pipeline.synthetic import synthetic_pair


@pytest.fixture
def recipes() -> Path:
    """The folder of the builders."""
    return Path(__file__).parents[2] / "data"


@pytest.fixture
def write_pairs() -> Callable[..., None]:
    """Writes small pairs into two folders; infrared as RGB if asked for."""

    def write(
        visible: Path, infrared: Path, names: list[str], *, grey_as_rgb: bool = False
    ) -> None:
        visible.mkdir(parents=True)
        infrared.mkdir(parents=True)
        for index, name in enumerate(names):
            pair = synthetic_pair(index, height=33, width=47)
            grey = np.round(255 * pair["infrared"]).astype(np.uint8)
            if grey_as_rgb:
                grey = np.repeat(grey[..., None], 3, axis=2)
            Image.fromarray(pair["visible"]).save(visible / name)
            Image.fromarray(grey).save(infrared / name)

    return write


@pytest.fixture
def serve_archive(tmp_path, monkeypatch) -> Callable[[Path], Path]:
    """Packs a folder and makes it what every download brings; returns the archive."""

    def serve(folder: Path) -> Path:
        archive = shutil.make_archive(str(tmp_path / "download"), "zip", folder)
        monkeypatch.setattr(
            tfds.download.DownloadManager, "download", lambda self, url: Path(archive)
        )
        return Path(archive)

    return serve
