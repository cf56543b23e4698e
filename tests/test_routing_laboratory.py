import runpy
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest

from fusionproxy_jax.config import DDFMConfig, PanelConfig, TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.synthetic import SyntheticPairs
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.runtime.images import read_visible
from fusionproxy_jax.teachers.cache import build_cache

SCRIPT = Path(__file__).parents[1] / "experiments" / "routing_laboratory.py"
CELL_PX, GAP_PX, HEADER_ROWS = 64, 8, 2


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Runs the script and returns its sheet, and a function that cuts cells out."""

    def run(*arguments, temperatures=("0", "1", "inf")):
        out = tmp_path / "routing.png"
        line = [str(SCRIPT), "--out", str(out), "--cell-px", str(CELL_PX), *arguments]
        monkeypatch.setattr(sys, "argv", [*line, "--temperatures", *temperatures])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        sheet = read_visible(out)
        pitch, rest = divmod(sheet.shape[0] - GAP_PX, HEADER_ROWS + len(temperatures))
        assert rest == 0 and CELL_PX < pitch < CELL_PX + 40

        def cell(row, column):
            bottom = (row + 1) * pitch
            left = GAP_PX + column * (CELL_PX + GAP_PX)
            return sheet[bottom - CELL_PX : bottom, left : left + CELL_PX, 0].astype(
                int
            )

        return sheet, cell

    return run


def test_a_synthetic_scene_gives_a_row_for_each_temperature(draw, capsys):
    sheet, cell = draw("--tile", "2")
    # Three made-up backbones and the entropy.
    assert sheet.shape[1] == GAP_PX + 4 * (CELL_PX + GAP_PX)
    assert "over edges, texture, regions" in capsys.readouterr().out

    hard, usual, uniform = (
        [cell(HEADER_ROWS + row, column) for column in range(4)] for row in range(3)
    )
    assert set(np.unique(hard[:3])) == {0, 255}
    np.testing.assert_array_equal(sum(hard[:3]), 255)
    np.testing.assert_allclose(sum(usual[:3]), 255, atol=2)
    assert all(np.ptp(weights) > 50 for weights in usual[:3])
    np.testing.assert_array_equal(uniform[:3], 85)
    means = [row[3].mean() for row in (hard, usual, uniform)]
    assert means[0] == 0 < means[1] < means[2] == 255


def block_means(name: str, size: int) -> Backbone:
    """A backbone whose features are mean colours of squares."""

    def apply(params, images):
        b, height, width, c = images.shape
        shape = b, height // size, size, width // size, size, c
        return images.reshape(shape).mean(axis=(2, 4))

    return Backbone(name, f"{size:016x}", {}, apply)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Makes a cache of two tiles with the features of a panel."""
    teachers = TeacherConfig(
        teachers=("gaussian",),
        num_samples=2,
        ddfm=DDFMConfig(mode="balanced", num_steps=2),
        tile_px=32,
    )

    def run(*panel):
        return build_cache(
            SyntheticPairs(2, height=32, width=32),
            teachers,
            tmp_path_factory.mktemp("cache"),
            panel=panel,
            panel_config=PanelConfig(grid=16),
            accept_failed_gate=True,
        )

    return run


def test_a_tile_of_a_cache_is_drawn_with_the_weights_of_equation_8(draw, build):
    cache = build(block_means("fine", 2), block_means("coarse", 8))
    sheet, cell = draw("--cache", str(cache.directory), "--tile", "1")
    assert sheet.shape[1] == GAP_PX + 3 * (CELL_PX + GAP_PX)

    names = [backbone.name for backbone in cache.panel]
    tile = cache.with_panel(names)[1]
    deviations = np.stack([tile[f"feature_deviation/{name}"] for name in names])
    weights = oracles.routing_weights(
        np.square(deviations.astype(float)),
        [backbone.mean_variance for backbone in cache.panel],
        temperature=1.0,
        epsilon=1e-6,
    )
    assert np.ptp(weights) > 0.1
    for column, one in enumerate(weights):
        enlarged = one.repeat(4, axis=0).repeat(4, axis=1)
        drawn = cell(HEADER_ROWS + 1, column)
        np.testing.assert_allclose(drawn, 255 * enlarged, atol=1)


def test_a_cache_without_what_is_asked_for_is_refused(draw, build):
    directory = str(build().directory)
    with pytest.raises(FusionProxyError, match="tile 2 is asked for; .* has 2"):
        draw("--cache", directory, "--tile", "2")
    with pytest.raises(FusionProxyError, match="has no panel features; add them with"):
        draw("--cache", directory)
