import dataclasses
import math
import sys

import numpy as np
import pytest
from fake_population import add_row
from swept_folder import leave_member, leave_sweep

from fusionproxy_jax.config import LossConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.images import read_visible
from fusionproxy_jax.sweeps.report.charts import colouring
from fusionproxy_jax.sweeps.report.curves import draw_curves
from fusionproxy_jax.sweeps.report.entropy import axis_places, draw_entropy
from fusionproxy_jax.sweeps.report.gather import gather


@pytest.fixture
def swept(make_config, tmp_path):
    members = {
        f"{temperature:g}-{seed}": make_config(temperature=temperature, seed=seed)
        for temperature in (math.inf, 0.1, 3.0)
        for seed in (0, 1)
    }
    leave_sweep(tmp_path, members)
    for name, config in members.items():
        state = "dead" if name == "3-1" else "finished"
        leave_member(tmp_path, name, config, state=state)
    return tmp_path


def colours_in(path):
    """Returns the colours of a picture that are no greys."""
    pixels = np.unique(read_visible(path).reshape(-1, 3), axis=0)
    return {tuple(one.tolist()) for one in pixels if np.ptp(one) > 40}


def test_colours_follow_the_setting_that_varies_from_dark_to_bright(swept):
    record = gather(swept)
    found = colouring(record)
    assert found.setting == "loss.routing_temperature"
    assert list(found.colours) == ["0.1", "3", "inf"]
    assert found.of("0.1-0") == found.of("0.1-1") != found.of("3-0")
    brightness = [int(colour[3:5], 16) for colour in found.colours.values()]
    assert brightness == sorted(brightness)


def test_where_seeds_alone_vary_they_have_the_colours(make_config, tmp_path):
    members = {str(seed): make_config(seed=seed) for seed in range(3)}
    found = colouring(gather(leave_sweep(tmp_path, members)))
    assert found.setting == "seed" and len(found.colours) == 3


def test_curves_have_a_line_a_member_in_its_colour(swept):
    record, path = gather(swept), swept / "curves.png"
    assert draw_curves(record, path)
    drawn = colours_in(path)
    for colour in colouring(record).colours.values():
        assert tuple(bytes.fromhex(colour[1:])) in drawn


def test_members_without_metrics_are_left_out(make_config, tmp_path):
    members = {str(seed): make_config(seed=seed) for seed in range(2)}
    leave_sweep(tmp_path, members)
    assert not draw_curves(gather(tmp_path), tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
    add_row(tmp_path_of(tmp_path, "1"), 1, {"loss": -0.5})
    assert draw_curves(gather(tmp_path), tmp_path / "curves.png")


def tmp_path_of(workdir, name):
    directory = workdir / "members" / name
    directory.mkdir(parents=True)
    return directory


def test_a_single_member_is_drawn_too(make_config, tmp_path):
    members = {"only": make_config()}
    leave_sweep(tmp_path, members)
    leave_member(tmp_path, "only", members["only"])
    record = gather(tmp_path)
    assert record.varied == ()
    assert draw_curves(record, tmp_path / "curves.png")


def test_an_infinite_temperature_stands_behind_the_others():
    places = axis_places([math.inf, 0.1, 10.0])
    assert places[0.1] == 0.1 and places[10.0] == 10.0
    # A fifth of two decades is less than the least ratio.
    assert places[math.inf] == pytest.approx(30.0)
    assert axis_places([1.0, 1e5, math.inf])[math.inf] == pytest.approx(1e6)
    assert axis_places([math.inf]) == {math.inf: 3.0}
    assert axis_places([2.0, math.inf])[math.inf] == pytest.approx(6.0)


def test_entropy_is_drawn_against_the_temperature(swept):
    path = swept / "entropy.png"
    assert draw_entropy(gather(swept), path)
    assert colours_in(path)


def test_infinity_alone_is_drawn(make_config, tmp_path):
    members = {"hot": make_config(temperature=math.inf)}
    leave_sweep(tmp_path, members)
    leave_member(tmp_path, "hot", members["hot"])
    assert draw_entropy(gather(tmp_path), tmp_path / "entropy.png")


def test_without_routing_by_variance_there_is_no_entropy(make_config, tmp_path):
    config = dataclasses.replace(make_config(), loss=LossConfig(routing="learned"))
    leave_sweep(tmp_path, {"a": config})
    leave_member(tmp_path, "a", config)
    assert not draw_entropy(gather(tmp_path), tmp_path / "entropy.png")


def test_a_missing_matplotlib_is_a_sentence(swept, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(FusionProxyError, match="drawn with matplotlib; run pip"):
        draw_curves(gather(swept), swept / "curves.png")
