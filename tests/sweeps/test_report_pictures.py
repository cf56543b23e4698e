import math

import numpy as np
import pytest
from fake_population import draw
from swept_folder import leave_member, leave_sweep

from fusionproxy_jax.evaluation.contact_sheet import contact_sheet
from fusionproxy_jax.runtime.images import read_visible
from fusionproxy_jax.sweeps.report.gather import gather
from fusionproxy_jax.sweeps.report.pictures import draw_pictures, draw_routing
from fusionproxy_jax.sweeps.report.sheets import (
    CELL_PX,
    column,
    newest_sheet,
    num_columns,
    square_cells,
)


@pytest.fixture
def members(make_config):
    return {
        "hot": make_config(temperature=math.inf, seed=1),
        "cold": make_config(temperature=0.1, seed=2),
        "dead": make_config(temperature=0.1, seed=3),
    }


@pytest.fixture
def swept(members, tmp_path):
    leave_sweep(tmp_path, members)
    for name in ("hot", "cold"):
        leave_member(tmp_path, name, members[name], pictures=True)
    leave_member(tmp_path, "dead", members["dead"], state="dead")
    return tmp_path


def greys(image):
    """Returns the greys that fill much of an image, white aside."""
    values, counts = np.unique(image[..., 0], return_counts=True)
    return {int(v) for v, c in zip(values, counts, strict=True) if c > 5000 and v < 255}


@pytest.mark.parametrize(("num_rows", "num_columns_"), [(1, 3), (2, 5), (4, 7)])
def test_a_sheet_of_square_pictures_is_cut_into_its_cells(num_rows, num_columns_):
    cells = [
        [np.full((32, 32), 40 * row + 5 * place, np.uint8) for place in range(7)]
        for row in range(num_rows)
    ]
    rows = [[("label", one) for one in row[:num_columns_]] for row in cells]
    found = square_cells(contact_sheet(rows))
    assert len(found) == num_rows
    for row, expected in zip(found, cells, strict=True):
        for cell, shade in zip(row, expected[:num_columns_], strict=True):
            assert cell.shape == (CELL_PX, CELL_PX, 3)
            np.testing.assert_array_equal(cell, shade[0, 0])


def test_the_newest_whole_picture_counts(tmp_path):
    assert newest_sheet(tmp_path, "[0-9]*.png") is None
    for step, shade in ((2, 100), (10, 150)):
        draw(tmp_path, step, shade=shade)
    (tmp_path / "pictures/0000020.png").write_bytes(b"cut sh")
    sheet = newest_sheet(tmp_path, "[0-9]*.png")
    assert num_columns(sheet) == 3
    assert greys(column(sheet, 2)) == {150, 155}


def test_members_stand_beside_the_sources_in_columns(swept):
    path = swept / "pictures.png"
    assert draw_pictures(gather(swept), path)
    sheet = read_visible(path)
    assert num_columns(sheet) == 5
    # Visible, infrared, both members, and an empty cell for the dead one.
    shades = [greys(column(sheet, number)) for number in range(5)]
    assert shades == [{10}, {20}, {40, 45}, {80, 85}, {230}]


def test_many_members_take_several_rows(make_config, tmp_path):
    members = {str(seed): make_config(seed=seed) for seed in range(8)}
    leave_sweep(tmp_path, members)
    leave_member(tmp_path, "0", members["0"], pictures=True)
    draw_pictures(gather(tmp_path), tmp_path / "pictures.png")
    sheet = read_visible(tmp_path / "pictures.png")
    assert num_columns(sheet) == 8
    # The last two empty cells stand below the sources, the rest is white.
    assert greys(column(sheet, 0)) == {10, 230} and greys(column(sheet, 4)) == {230}


def test_routing_has_a_row_a_temperature_for_every_tile(swept):
    path = swept / "routing.png"
    assert draw_routing(gather(swept), path)
    sheet = read_visible(path)
    pitch, rest = divmod(sheet.shape[0] - 8, 4)
    assert rest == 0 and sheet.shape[1] == 8 + 5 * 248
    # Entropy: colder first, twice.
    middles = [sheet[(row + 1) * pitch - 120, 8 + 4 * 248 + 120, 0] for row in range(4)]
    assert middles == [80, 40, 80, 40]
    weights = [sheet[pitch - 120, 8 + number * 248 + 120, 0] for number in range(5)]
    assert weights == [10, 20, 64, 191, 80]


def test_nothing_to_show_is_no_picture(members, tmp_path):
    record = gather(leave_sweep(tmp_path, members))
    assert not draw_pictures(record, tmp_path / "pictures.png")
    assert not draw_routing(record, tmp_path / "routing.png")
    assert not list(tmp_path.glob("*.png"))
