import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.contact_sheet import contact_sheet


def random_image(height, width, channels=3, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 200, (height, width, channels), dtype=np.uint8)


def test_images_of_the_cells_width_are_shown_pixel_for_pixel():
    images = [random_image(60, 100, seed=seed) for seed in range(3)]
    sheet = contact_sheet(
        [[("", images[0]), ("", images[1])], [("", images[2])]],
        cell_width_px=100,
        gap_px=5,
    )
    assert sheet.shape == (5 + 2 * 65, 5 + 2 * 105, 3) and sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet[5:65, 5:105], images[0])
    np.testing.assert_array_equal(sheet[5:65, 110:210], images[1])
    np.testing.assert_array_equal(sheet[70:130, 5:105], images[2])
    assert np.all(sheet[70:130, 110:] == 255)


def test_a_label_stands_above_its_image_and_not_on_it():
    image = random_image(60, 100)
    plain = contact_sheet([[("", image)]], cell_width_px=100, gap_px=5)
    labelled = contact_sheet([[("Fused gypq", image)]], cell_width_px=100, gap_px=5)
    text_height = len(labelled) - len(plain)
    assert text_height >= 10
    # The last 65 lines are the image and the gap below it.
    assert labelled[:-65].min() < 100
    np.testing.assert_array_equal(labelled[-65:], plain[-65:])


def test_grey_and_larger_images_are_brought_to_one_width():
    grey = np.full((80, 200), 50, np.uint8)
    sheet = contact_sheet(
        [[("", grey), ("", random_image(100, 100))]], cell_width_px=100, gap_px=4
    )
    assert sheet.shape == (4 + 100 + 4, 4 + 2 * 104, 3)
    assert np.all(sheet[4:44, 4:104] == 50)
    assert np.all(sheet[45:, 4:104] == 255)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "at least one image"),
        ([[]], "at least one image"),
        ([[("a", np.zeros((9, 9)))]], "float64"),
        ([[("a", np.zeros((9, 9, 4), np.uint8))]], r"uint8 \(9, 9, 4\)"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_sentence(rows, sentence):
    with pytest.raises(FusionProxyError, match=sentence):
        contact_sheet(rows)
