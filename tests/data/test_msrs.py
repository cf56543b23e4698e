"""data/msrs: official train and test folders become splits."""

import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pair_builder import load_builder, prepare_pairs
from fusionproxy_jax.input_pipeline.pairs import load_pairs


@pytest.fixture
def release(tmp_path, write_pairs):
    """The repository as released, with three training pairs and one test pair."""
    root = tmp_path / "release" / "MSRS-main"
    for split, names in {
        "train": ["00001D.png", "00003N.png", "00005N.png"],
        "test": ["00004N.png"],
    }.items():
        write_pairs(root / split / "vi", root / split / "ir", names)
        (root / split / "vi" / "Thumbs.db").touch()
    return root


@pytest.fixture
def few_pairs(recipes, monkeypatch):
    """Makes the builder expect what `release` holds."""
    monkeypatch.setattr(
        load_builder(recipes / "msrs"), "NUM_PAIRS", {"train": 3, "test": 1}
    )


def test_the_official_split_has_1083_and_361_pairs(recipes):
    builder = load_builder(recipes / "msrs")
    assert builder.NUM_PAIRS == {"train": 1083, "test": 361}


def test_prepared_pairs_are_those_of_the_release(
    release, serve_archive, few_pairs, recipes, tmp_path
):
    serve_archive(release.parent)
    folder = prepare_pairs(recipes / "msrs", data_dir=tmp_path)
    assert folder == tmp_path / "msrs" / "1.0.0"
    source = load_pairs(["tfds:msrs"], data_dir=tmp_path)
    ids = [pair_id for pair_id, _ in source.ids_and_groups]
    assert sorted(ids) == ["msrs/00001D", "msrs/00003N", "msrs/00005N"]
    for index in range(len(source)):
        pair = source[index]
        name = pair["id"].removeprefix("msrs/") + ".png"
        visible = np.asarray(Image.open(release / "train" / "vi" / name))
        infrared = np.asarray(Image.open(release / "train" / "ir" / name))
        np.testing.assert_array_equal(pair["visible"], visible)
        np.testing.assert_allclose(pair["infrared"], infrared / 255, atol=1e-6)
    assert "tensorflow" not in sys.modules


def test_the_test_split_is_read_only_when_named(
    release, serve_archive, few_pairs, recipes, tmp_path
):
    serve_archive(release.parent)
    prepare_pairs(recipes / "msrs", data_dir=tmp_path)
    source = load_pairs(["tfds:msrs:test"], data_dir=tmp_path)
    assert source.ids_and_groups == [("msrs/00004N", "msrs/00004N")]
    with pytest.raises(
        FusionProxyError, match="no split 'val'.*splits are test, train"
    ):
        load_pairs(["tfds:msrs:val"], data_dir=tmp_path)


def test_a_partial_download_is_noticed(release, serve_archive, recipes, tmp_path):
    serve_archive(release.parent)
    with pytest.raises(FusionProxyError, match="3 pairs of msrs train.* has 1083"):
        prepare_pairs(recipes / "msrs", data_dir=tmp_path)


def test_a_missing_partner_is_named(
    release, serve_archive, few_pairs, recipes, tmp_path
):
    (release / "train" / "ir" / "00003N.png").unlink()
    serve_archive(release.parent)
    with pytest.raises(FusionProxyError, match="00003N"):
        prepare_pairs(recipes / "msrs", data_dir=tmp_path)


def test_a_damaged_image_is_named(release, serve_archive, few_pairs, recipes, tmp_path):
    path = release / "train" / "vi" / "00003N.png"
    path.write_bytes(path.read_bytes()[:200])
    serve_archive(release.parent)
    with pytest.raises(FusionProxyError, match="00003N"):
        prepare_pairs(recipes / "msrs", data_dir=tmp_path)


def test_a_damaged_archive_is_named(
    release, serve_archive, few_pairs, recipes, tmp_path
):
    archive = serve_archive(release.parent)
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(FusionProxyError, match=r"download\.zip is damaged"):
        prepare_pairs(recipes / "msrs", data_dir=tmp_path)


def test_a_failed_download_is_one_sentence(recipes, tmp_path, monkeypatch):
    def fail(self, url):
        raise ConnectionError(f"no route to {url}")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", fail)
    with pytest.raises(FusionProxyError, match="could not prepare msrs: no route"):
        prepare_pairs(recipes / "msrs", data_dir=tmp_path)


def test_an_unprepared_data_set_says_how_to_prepare_it(tmp_path):
    with pytest.raises(FusionProxyError, match="fusionproxy prepare data/msrs"):
        load_pairs(["tfds:msrs"], data_dir=tmp_path)


def test_a_folder_without_builder_is_refused(tmp_path):
    with pytest.raises(FusionProxyError, match="name a folder such as data/msrs"):
        prepare_pairs(tmp_path, data_dir=tmp_path)


def test_citation_and_licence_are_stored(recipes, tmp_path):
    info = load_builder(recipes / "msrs")(data_dir=tmp_path).info
    assert "PIAFusion" in info.citation
    assert "states no licence" in info.redistribution_info.license
