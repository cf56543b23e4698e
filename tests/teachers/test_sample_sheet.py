import numpy as np
import pytest

from fusionproxy_jax.teachers import sample_sheet as module
from fusionproxy_jax.teachers.sample_sheet import sample_sheet, sheet_name


@pytest.mark.parametrize(
    ("tile_id", "name"),
    [
        ("roadscene/FLIR_0001@0,256", "roadscene_FLIR_0001@0,256.png"),
        ("../../etc/pass wd", ".._.._etc_pass_wd.png"),
        ("/abs:o\\lute", "_abs_o_lute.png"),
    ],
)
def test_a_tiles_file_name_is_its_id_and_stays_in_the_folder(tile_id, name):
    assert sheet_name(tile_id) == name


def test_a_sheet_shows_sources_samples_means_and_the_scaled_deviation(monkeypatch):
    shown = []
    monkeypatch.setattr(module, "contact_sheet", shown.extend)
    samples = np.full((2, 3, 8, 8, 3), 0.5, np.float32)
    samples[1, 2, 0, 0] = 0.8
    record = {
        "id": "a/b@0,0",
        "valid_height": 4,
        "valid_width": 6,
        "visible": np.full((8, 8, 3), 7, np.uint8),
        "infrared": np.full((8, 8), 0.25, np.float16),
    }
    sample_sheet(samples, ("ddfm", "mask_difuser"), record)
    labels = [[label for label, _ in row] for row in shown]
    deviation = np.sqrt(0.3**2 * (1 / 6 - 1 / 36))
    assert labels == [
        [
            "visible a/b@0,0",
            "infrared",
            "ensemble mean",
            f"deviation, white = {deviation:.3f}",
        ],
        ["ddfm 1", "ddfm 2", "ddfm 3", "ddfm mean"],
        ["mask_difuser 1", "mask_difuser 2", "mask_difuser 3", "mask_difuser mean"],
    ]
    images = {label: image for row in shown for label, image in row}
    assert all(image.shape[:2] == (4, 6) for image in images.values())
    scaled = images[labels[0][3]]
    assert scaled[0, 0] == 255 and scaled.sum() == 255
    assert images["mask_difuser 3"][0, 0, 0] == 204
    assert images["mask_difuser mean"][0, 0, 0] == round(255 * 0.6)
    assert images["infrared"][0, 0] == 64 and images["visible a/b@0,0"][0, 0, 0] == 7


def test_samples_without_spread_make_a_black_map():
    samples = np.full((1, 1, 8, 8, 3), 0.5, np.float32)
    record = {
        "id": "a",
        "valid_height": 8,
        "valid_width": 8,
        "visible": np.zeros((8, 8, 3), np.uint8),
        "infrared": np.zeros((8, 8), np.float16),
    }
    sheet = sample_sheet(samples, ("average",), record)
    assert sheet.dtype == np.uint8 and sheet.shape[-1] == 3
