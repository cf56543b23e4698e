"""data/roadscene: the aligned crops among the folders of the release."""

import numpy as np
import pytest
from PIL import Image

from fusionproxy_jax.input_pipeline.pair_builder import load_builder, prepare_pairs
from fusionproxy_jax.input_pipeline.pairs import load_pairs


@pytest.fixture
def release(tmp_path, write_pairs, serve_archive, recipes, monkeypatch):
    """A release of two pairs, with the uncropped folders that must be left alone."""
    root = tmp_path / "release" / "RoadScene-master"
    names = ["FLIR_00006.jpg", "FLIR_00018.jpg"]
    write_pairs(root / "crop_LR_visible", root / "cropinfrared", names)
    write_pairs(root / "crop_HR_visible", root / "infrared", ["FLIR_09999.jpg"])
    (root / "crop_LR_visible" / "Thumbs.db").touch()
    serve_archive(root.parent)
    monkeypatch.setattr(
        load_builder(recipes / "roadscene"), "NUM_PAIRS", {"train": len(names)}
    )
    return root


def test_only_aligned_crops_are_prepared(release, recipes, tmp_path):
    prepare_pairs(recipes / "roadscene", data_dir=tmp_path)
    source = load_pairs(["tfds:roadscene"], data_dir=tmp_path)
    ids = sorted(pair_id for pair_id, _ in source.ids_and_groups)
    assert ids == ["roadscene/FLIR_00006", "roadscene/FLIR_00018"]


def test_infrared_is_not_compressed_a_second_time(release, recipes, tmp_path):
    prepare_pairs(recipes / "roadscene", data_dir=tmp_path)
    pair = load_pairs(["tfds:roadscene"], data_dir=tmp_path)[0]
    path = release / "cropinfrared" / f"{pair['id'].removeprefix('roadscene/')}.jpg"
    infrared = np.asarray(Image.open(path)) / 255
    np.testing.assert_allclose(pair["infrared"], infrared, atol=1e-6)


def test_both_papers_of_the_data_set_are_cited(release, recipes, tmp_path):
    citation = load_builder(recipes / "roadscene")(data_dir=tmp_path).info.citation
    assert "FusionDN" in citation
    assert "U2Fusion" in citation
