"""data/m3fd: archives fetched by hand, splits named after them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from fusionproxy_jax.commands.prepare import Prepare
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pair_builder import load_builder, prepare_pairs
from fusionproxy_jax.input_pipeline.pairs import load_pairs


@pytest.fixture
def manual_dir(tmp_path, write_pairs, recipes, monkeypatch):
    """A manual folder: one archive packed, the other unpacked, infrared as RGB."""
    folder = tmp_path / "manual"
    packed = tmp_path / "packed"
    for root, names in (
        (folder / "M3FD_Detection", ["00000.png", "00001.png"]),
        # The same stem as a labelled pair: another image.
        (packed, ["00001.png"]),
    ):
        write_pairs(root / "Vis", root / "Ir", names, grey_as_rgb=True)
    shutil.make_archive(str(folder / "M3FD_Fusion"), "zip", packed)
    monkeypatch.setattr(
        load_builder(recipes / "m3fd"), "NUM_PAIRS", {"detection": 2, "fusion": 1}
    )
    return folder


def test_splits_are_the_archives_of_the_release(manual_dir, recipes, tmp_path, capsys):
    Prepare(
        recipe=recipes / "m3fd", data_dir=tmp_path / "out", manual_dir=manual_dir
    ).run()
    assert "tfds:m3fd" in capsys.readouterr().out
    source = load_pairs(
        ["tfds:m3fd:detection", "tfds:m3fd:fusion"], data_dir=tmp_path / "out"
    )
    assert sorted(source.ids_and_groups) == [
        ("m3fd/detection/00000", "m3fd/detection/00000"),
        ("m3fd/detection/00001", "m3fd/detection/00001"),
        ("m3fd/fusion/00001", "m3fd/fusion/00001"),
    ]


def test_infrared_released_as_rgb_has_one_channel(manual_dir, recipes, tmp_path):
    prepare_pairs(recipes / "m3fd", data_dir=tmp_path, manual_dir=manual_dir)
    pair = load_pairs(["tfds:m3fd:fusion"], data_dir=tmp_path)[0]
    path = tmp_path / "packed" / "Ir" / "00001.png"
    infrared = np.asarray(Image.open(path))[..., 0]
    np.testing.assert_allclose(pair["infrared"], infrared / 255, atol=1e-6)


def test_labelled_pairs_are_trained_on_only_when_named(manual_dir, recipes, tmp_path):
    prepare_pairs(recipes / "m3fd", data_dir=tmp_path, manual_dir=manual_dir)
    with pytest.raises(FusionProxyError, match="splits are detection, fusion"):
        load_pairs(["tfds:m3fd"], data_dir=tmp_path)


def test_without_the_files_the_instructions_are_given(recipes, tmp_path):
    with pytest.raises(FusionProxyError, match=r"(?s)by hand.*M3FD_Detection\.zip"):
        prepare_pairs(recipes / "m3fd", data_dir=tmp_path)


def test_a_missing_archive_is_named(manual_dir, recipes, tmp_path):
    (manual_dir / "M3FD_Fusion.zip").unlink()
    with pytest.raises(FusionProxyError, match=r"M3FD_Fusion\.zip"):
        prepare_pairs(recipes / "m3fd", data_dir=tmp_path, manual_dir=manual_dir)
