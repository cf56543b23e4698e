"""A panel's features in a teacher cache: what they are, and that nothing disturbs."""

import dataclasses
import json
import pickle
import re

import jax.numpy as jnp
import numpy as np
import pytest
from cache_builds import cache_files, make_pair
from compiled_teachers import compiled_once
from strided_backbones import bilinear, tiny_backbone, tiny_features

from fusionproxy_jax.config import DDFMConfig, PanelConfig, TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.loader import make_loader
from fusionproxy_jax.input_pipeline.schema import check_tile
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.teachers import part_builder
from fusionproxy_jax.teachers.cache import build_cache, open_cache
from fusionproxy_jax.teachers.panel_statistics.cached_backbone import CachedBackbone
from fusionproxy_jax.teachers.panel_statistics.panel_lines import panel_lines
from fusionproxy_jax.teachers.samples import read_samples, samples_path

CONFIG = TeacherConfig(
    teachers=("gaussian",),
    num_samples=3,
    ddfm=DDFMConfig(mode="balanced", num_steps=2),
    tile_px=32,
)
PANEL_CONFIG = PanelConfig(grid=6, scale_tiles=5)
FINE = {"stride": 4, "channels": 3, "seed": 0}
COARSE = {"stride": 7, "channels": 2, "seed": 1}
ENTRY = CachedBackbone(
    name="entry",
    fingerprint="f0",
    scale=np.array([1, 2], np.float32),
    mean_variance=0.3,
    grid=64,
    feature_grid=(8, 8),
)
PANEL = (tiny_backbone("fine", **FINE), tiny_backbone("coarse#0", **COARSE))
# 18 tiles in two shards.
PAIRS = [make_pair(index) for index in range(3)]


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    with compiled_once():
        yield


def _build(directory, panel=PANEL, **options):
    options = {
        "panel": panel,
        "panel_config": PANEL_CONFIG,
        "accept_failed_gate": True,
    } | options
    return build_cache(PAIRS, CONFIG, directory, **options)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return _build(tmp_path_factory.mktemp("plain"), ())


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return _build(tmp_path_factory.mktemp("kept"), keep_samples=True)


@pytest.fixture(scope="module")
def samples(kept):
    """Samples [s, h, w, 3] of every tile."""
    return [
        one
        for number, size in ((0, 16), (1, 2))
        for one in read_samples(samples_path(kept.directory, number), range(size))
    ]


def _without_samples(cache):
    files = cache_files(cache.directory)
    return {name: file for name, file in files.items() if "samples" not in name}


@pytest.fixture
def drawn(monkeypatch):
    """Tiles drawn by teachers."""
    tiles = []

    def teach(source, manifest, wanted, **options):
        for taught in teach_tiles(source, manifest, wanted, **options):
            tiles.append(taught.record["id"])
            yield taught

    teach_tiles = part_builder.teach_tiles
    monkeypatch.setattr(part_builder, "teach_tiles", teach)
    return tiles


def test_the_scale_is_taken_on_tiles_spread_evenly_over_the_cache(kept, samples):
    # Of 18 tiles, 5.
    seen = np.concatenate([samples[number] for number in (0, 4, 8, 13, 17)])
    for entry, shape in zip(kept.panel, (COARSE, FINE), strict=True):
        expected = tiny_features(seen, **shape).std(axis=(0, 1, 2))
        assert entry.scale.dtype == np.float32
        np.testing.assert_allclose(entry.scale, expected, rtol=1e-5)


def test_targets_and_variances_are_those_of_numpy(kept, samples):
    tiles = kept.with_panel(["fine", "coarse#0"])
    scales = {entry.name: entry.scale for entry in kept.panel}
    for name, shape in (("fine", FINE), ("coarse#0", COARSE)):
        sums = 0.0
        for tile, seen in zip(tiles, samples, strict=True):
            scaled = tiny_features(seen, **shape) / scales[name]
            variance = bilinear(scaled, 6).var(axis=0).mean(axis=-1)
            np.testing.assert_allclose(
                tile[f"feature_target/{name}"],
                scaled.mean(axis=0),
                rtol=1e-3,
                atol=1e-3,
            )
            np.testing.assert_allclose(
                tile[f"feature_deviation/{name}"], np.sqrt(variance), atol=1e-3
            )
            sums += variance.mean()
        (entry,) = (entry for entry in kept.panel if entry.name == name)
        assert entry.mean_variance == pytest.approx(sums / 18, rel=1e-5)


def test_samples_are_what_an_rgb_network_sees_of_all_teachers(kept, samples):
    assert len(samples) == len(kept) == 18
    for tile, seen in zip(kept, samples, strict=True):
        assert seen.dtype == np.uint8 and seen.shape == (3, 32, 32, 3)
        mean = (seen / 255).mean(axis=0)
        np.testing.assert_allclose(mean, tile["ensemble_mean"], atol=3e-3)


def test_the_cache_says_what_it_has_of_every_backbone(kept):
    coarse, fine = kept.panel
    assert (coarse.name, fine.name) == ("coarse#0", "fine")
    assert (fine.fingerprint, fine.grid, fine.num_channels) == ("f0", 6, 3)
    assert (fine.feature_grid, coarse.feature_grid) == ((8, 8), (4, 4))
    tile = kept.with_panel(["fine"])[0]
    arrays = [tile[key] for key in ("feature_target/fine", "feature_deviation/fine")]
    assert fine.bytes_per_tile == sum(array.nbytes for array in arrays)


def test_features_do_not_change_the_cache_itself(plain, kept):
    assert kept.hash == plain.hash
    files = _without_samples(kept)
    own = {name: file for name, file in files.items() if "features/" not in name}
    assert own == cache_files(plain.directory)
    assert plain.panel == ()


def test_tiles_carry_the_features_of_the_backbones_asked_for_and_by_default_none(kept):
    assert not any(key.startswith("feature_") for key in kept[0])
    view = kept.with_panel(["fine"])
    tile = pickle.loads(pickle.dumps(view))[17]
    assert {key for key in tile if key.startswith("feature_")} == {
        "feature_target/fine",
        "feature_deviation/fine",
    }
    assert tile["id"] == kept[17]["id"]
    check_tile(tile)
    assert [entry.name for entry in kept.with_panel([]).panel] == ["coarse#0", "fine"]


def test_a_run_without_alignment_cuts_and_one_with_it_gets_whole_tiles(kept):
    options = {"batch_size": 2, "crop_px": 16, "flip": True, "seed": 0}
    batch = next(make_loader(kept, **options))
    assert batch["visible"].shape == (2, 16, 16, 3)
    batch = next(make_loader(kept.with_panel(["fine"]), **options))
    assert batch["visible"].shape == (2, 32, 32, 3)
    assert batch["feature_target/fine"].shape == (2, 8, 8, 3)
    assert batch["feature_variance/fine"].shape == (2, 6, 6)


def test_backbones_that_are_not_there_are_named(kept, plain):
    told = "no features of 'clip', it has those of: coarse#0, fine; add them"
    with pytest.raises(FusionProxyError, match=told):
        kept.with_panel(["fine", "clip"])
    with pytest.raises(FusionProxyError, match="has those of: none"):
        plain.with_panel(["fine"])


def test_samples_go_when_the_panel_is_finished_unless_they_are_kept(kept, tmp_path):
    assert len(list(kept.directory.glob("samples-*"))) == 2
    cache = _build(tmp_path)
    assert cache_files(tmp_path) == _without_samples(kept)
    assert len(cache.panel) == 2


def test_a_backbone_comes_later_without_drawing_where_samples_are_kept(
    kept, tmp_path, drawn
):
    _build(tmp_path, (), keep_samples=True)
    assert len(drawn) == 18
    _build(tmp_path, PANEL[:1], keep_samples=True)
    cache = _build(tmp_path, PANEL[1:], keep_samples=True)
    assert len(drawn) == 18
    assert cache_files(tmp_path) == cache_files(kept.directory)
    assert cache.hash == kept.hash


def test_a_backbone_comes_later_where_they_are_not_and_only_they_are_drawn_anew(
    kept, tmp_path, drawn
):
    _build(tmp_path, ())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    _build(tmp_path, PANEL[1:])
    assert len(drawn) == 36
    _build(tmp_path)
    assert len(drawn) == 54
    assert cache_files(tmp_path) == _without_samples(kept)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    _build(tmp_path)
    assert len(drawn) == 54


@pytest.mark.parametrize(
    ("panel", "config", "told"),
    [
        (
            (tiny_backbone("fine", fingerprint="f1", **FINE),),
            PANEL_CONFIG,
            "features/fine holds features of another fine .its fingerprint was f0, now "
            "it is f1.; delete that folder",
        ),
        (PANEL, dataclasses.replace(PANEL_CONFIG, grid=7), "its grid was 6, now it is"),
        (PANEL, PanelConfig(grid=6), "its scale_tiles was 5, now it is 18"),
        ((PANEL[0], PANEL[0]), PANEL_CONFIG, "several backbones named fine"),
        ((tiny_backbone("../a"),), PANEL_CONFIG, r"named '../a'; its features lie in"),
    ],
)
def test_features_made_otherwise_are_refused_in_one_sentence(kept, panel, config, told):
    before = cache_files(kept.directory)
    with pytest.raises(FusionProxyError, match=told):
        _build(kept.directory, panel, panel_config=config)
    assert cache_files(kept.directory) == before


def test_a_later_backbone_on_another_grid_is_refused_in_one_sentence(tmp_path):
    _build(tmp_path, PANEL[:1])
    before = cache_files(tmp_path)
    other = dataclasses.replace(PANEL_CONFIG, grid=7)
    told = (
        "has fine on a grid of 6, and panel.grid is 7; the backbones of a cache share "
        "one grid, so give --panel.grid 6, or delete .*features/fine$"
    )
    with pytest.raises(FusionProxyError, match=told):
        _build(tmp_path, PANEL[1:], panel_config=other)
    assert cache_files(tmp_path) == before
    # Without a panel, nothing is made on its grid.
    _build(tmp_path, (), panel_config=other)


OF_MEAN = dataclasses.replace(PANEL_CONFIG, target="features_of_mean")


def test_the_target_may_be_the_features_of_the_ensemble_mean(kept, samples, tmp_path):
    cache = _build(tmp_path, PANEL[:1], panel_config=OF_MEAN)
    (entry,) = cache.panel
    (usual,) = (one for one in kept.panel if one.name == "fine")
    assert (entry.target, usual.target) == ("features_of_mean", "mean_of_features")
    np.testing.assert_array_equal(entry.scale, usual.scale)
    assert entry.mean_variance == usual.mean_variance
    assert entry.digest != usual.digest
    tiles = zip(cache.with_panel(["fine"]), kept.with_panel(["fine"]), strict=True)
    for number, (tile, other) in enumerate(tiles):
        mean = samples[number].mean(axis=0, keepdims=True)
        (expected,) = tiny_features(mean, **FINE) / entry.scale
        np.testing.assert_allclose(
            tile["feature_target/fine"], expected, rtol=2e-3, atol=2e-3
        )
        np.testing.assert_array_equal(
            tile["feature_deviation/fine"], other["feature_deviation/fine"]
        )
    (line,) = panel_lines(cache)
    assert line.endswith("; its targets are features of the mean sample")


def test_one_cache_has_targets_of_one_kind(kept, tmp_path):
    before = cache_files(kept.directory)
    told = "its target was mean_of_features, now it is features_of_mean"
    with pytest.raises(FusionProxyError, match=told):
        _build(kept.directory, panel_config=OF_MEAN)
    assert cache_files(kept.directory) == before
    _build(tmp_path, PANEL[:1], panel_config=OF_MEAN)
    told = (
        "has fine with the target features_of_mean, and panel.target is "
        "mean_of_features; .* give --panel.target features_of_mean, or delete"
    )
    with pytest.raises(FusionProxyError, match=told):
        _build(tmp_path, PANEL[1:])


def test_files_of_the_usual_target_are_as_they_were_before_there_were_others(kept):
    folder = kept.directory / "features" / "fine"
    for name in ("backbone.json", "statistics.json"):
        assert "target" not in json.loads((folder / name).read_text())
    assert ENTRY.digest == "860a066e4d4adff0"


def test_a_nearly_dead_channel_counts_nothing(tmp_path):
    def apply(params, images):
        gains = jnp.array([1.0, 1e-5, 1.0]).reshape(1, 1, 1, 3)
        return images[:, ::4, ::4] * gains + 7.0

    cache = _build(tmp_path, (Backbone("quiet", "", {}, apply),), keep_samples=True)
    (entry,) = cache.panel
    np.testing.assert_array_equal(np.isinf(entry.scale), [False, True, False])
    heard = np.array([0, 2])
    for number, tile in enumerate(cache.with_panel(["quiet"])):
        target = tile["feature_target/quiet"]
        assert np.all(target[..., 1] == 0) and np.all(target[..., heard] > 0)
        if number in (0, 15):
            (seen,) = read_samples(samples_path(tmp_path, 0), [number])
            scaled = seen[:, ::4, ::4, heard] / 255 / entry.scale[heard]
            # Of three channels, one of which is 0.
            variance = bilinear(scaled, 6).var(axis=0).sum(axis=-1) / 3
            np.testing.assert_allclose(
                tile["feature_deviation/quiet"], np.sqrt(variance), atol=1e-3
            )
    (line,) = panel_lines(cache)
    assert line.endswith("; 1 of its channels hardly vary and count nothing")


def test_panel_lines_say_nothing_of_silent_channels_where_there_are_none(kept):
    assert not any("hardly" in line for line in panel_lines(kept))


def test_statistics_of_a_silent_channel_come_back_from_json_of_the_standard(tmp_path):
    written = dataclasses.replace(ENTRY, scale=np.array([0.1, np.inf], np.float32))
    written.write(tmp_path)

    def refuse(constant):
        raise AssertionError(f"JSON has no {constant}")

    json.loads((tmp_path / "statistics.json").read_text(), parse_constant=refuse)
    found = CachedBackbone.read(tmp_path)
    np.testing.assert_array_equal(found.scale, written.scale)
    assert found.scale.dtype == np.float32
    assert found.digest == written.digest


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "f1"},
        {"grid": 65},
        {"scale": np.array([1, np.nextafter(np.float32(2), 3)], np.float32)},
        {"mean_variance": np.nextafter(0.3, 1)},
    ],
)
def test_the_digest_tells_features_apart_that_were_taught_otherwise(change):
    assert re.fullmatch("[0-9a-f]{16}", ENTRY.digest)
    same = dataclasses.replace(ENTRY, name="other", scale=ENTRY.scale.copy())
    assert same.digest == ENTRY.digest
    assert dataclasses.replace(ENTRY, **change).digest != ENTRY.digest


def test_more_scale_tiles_than_tiles_are_all_of_them(tmp_path):
    first = _build(tmp_path, PANEL[:1], panel_config=PanelConfig(grid=6)).panel[0]
    again = PanelConfig(grid=6, scale_tiles=18)
    second = _build(tmp_path, PANEL[:1], panel_config=again).panel[0]
    np.testing.assert_array_equal(first.scale, second.scale)


class _Interrupt(Exception):
    pass


@pytest.mark.parametrize(
    ("stop", "num_drawn"),
    # The second shard, of two tiles, is drawn again if it was not finished.
    [(("teach", 17), 17 + 2), (("scale", 2), 18), (("features", 7), 18)],
)
def test_an_interrupted_build_goes_on_where_it_was(
    kept, tmp_path, stop, num_drawn, drawn
):
    calls = []

    def progress(name, done, total):
        calls.append((name, done, total))
        if calls[-1][:2] == stop:
            raise _Interrupt

    def teach(done, total):
        progress("teach", done, total)

    with pytest.raises(_Interrupt):
        _build(tmp_path, progress=teach, panel_progress=progress)
    with pytest.raises(FusionProxyError, match="is unfinished"):
        open_cache(tmp_path)
    assert (tmp_path / "samples-00000.array_record").exists()
    stop = None
    calls.clear()
    _build(tmp_path, progress=teach, panel_progress=progress)
    assert len(drawn) == num_drawn
    assert cache_files(tmp_path) == _without_samples(kept)
    for name, total in (("teach", 18), ("scale", 5), ("features", 18)):
        told = [(done, of) for each, done, of in calls if each == name]
        assert told[0] == (0, total) and told[-1] == (total, total)
        assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_unfinished_features_of_a_finished_cache_are_not_offered(kept, tmp_path):
    def interrupt(name, done, total):
        if name == "features" and done == 17:
            raise _Interrupt

    _build(tmp_path, PANEL[:1])
    with pytest.raises(_Interrupt):
        _build(tmp_path, PANEL, panel_progress=interrupt)
    cache = open_cache(tmp_path)
    assert [entry.name for entry in cache.panel] == ["fine"]
    assert cache.unfinished_panel == ("coarse#0",)
    with pytest.raises(FusionProxyError, match="features of coarse#0 .* unfinished"):
        cache.with_panel(["coarse#0"])
    finished = _build(tmp_path)
    assert finished.unfinished_panel == ()
    assert cache_files(tmp_path) == _without_samples(kept)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_processes_in_any_order_the_last_does_what_is_left(kept, tmp_path, order):
    first, last = order
    assert _build(tmp_path, process_index=first, process_count=2) is None
    assert len(list(tmp_path.glob("shard-*.array_record"))) == 1
    assert not list(tmp_path.glob("features/*/shard-*"))
    cache = _build(tmp_path, process_index=last, process_count=2)
    assert [entry.name for entry in cache.panel] == ["coarse#0", "fine"]
    assert cache_files(tmp_path) == _without_samples(kept)


def test_one_of_two_processes_leaves_a_later_panel_to_the_other(kept, tmp_path, drawn):
    _build(tmp_path, ())
    assert _build(tmp_path, process_index=1, process_count=2) is None
    # The one tile of the scale and its shard.
    assert len(drawn) == 18 + 2
    assert _build(tmp_path, process_index=0, process_count=2) is not None
    assert len(drawn) == 18 + 2 + 16
    assert cache_files(tmp_path) == _without_samples(kept)


@pytest.mark.parametrize(
    "name",
    ["shard-00001.array_record", "shard-00001.json", "moments-00000.npz"],
)
def test_a_lost_file_is_made_anew(kept, tmp_path, name, drawn):
    _build(tmp_path)
    (tmp_path / "features" / "fine" / name).unlink()
    _build(tmp_path)
    assert len(drawn) == 18 + (16 if "moments" in name else 2)
    assert cache_files(tmp_path) == _without_samples(kept)


def test_damaged_features_are_named(tmp_path):
    cache = _build(tmp_path, PANEL[:1]).with_panel(["fine"])
    path = tmp_path / "features" / "fine" / "shard-00001.array_record"
    path.write_bytes(path.read_bytes()[:-500])
    cache[3]
    with pytest.raises(FusionProxyError, match="fine/shard-00001.array_record is dam"):
        cache[17]


def test_a_damaged_identity_is_named(tmp_path):
    _build(tmp_path, PANEL[:1])
    path = tmp_path / "features" / "fine" / "backbone.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(FusionProxyError, match="backbone.json is damaged; delete"):
        _build(tmp_path, PANEL[:1])


def test_statistics_can_be_read_by_anyone(kept):
    path = kept.directory / "features" / "fine" / "statistics.json"
    values = json.loads(path.read_text())
    assert values["num_channels"] == len(values["scale"]) == 3
    assert values["bytes_per_tile"] == 2 * (8 * 8 * 3 + 6 * 6)
    assert values["fingerprint"] == "f0" and values["mean_variance"] > 0


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (
            lambda images: images[:, ::4, ::4] / 0.0,
            "broken gives features that are not",
        ),
        (
            lambda images: 0.0 * images[:, ::4, ::4] + 7.0,
            "channel 0 of broken leaves float16's range .* its scale, 1.0e-06",
        ),
    ],
)
@pytest.mark.parametrize("config", [PANEL_CONFIG, OF_MEAN])
def test_features_that_cannot_be_kept_are_refused(tmp_path, features, told, config):
    broken = Backbone("broken", "", {}, lambda params, images: features(images))
    with pytest.raises(FusionProxyError, match=told):
        _build(tmp_path, (broken,), panel_config=config)


def test_features_without_a_manifest_are_not_taken_over(tmp_path):
    (tmp_path / "features" / "fine").mkdir(parents=True)
    with pytest.raises(FusionProxyError, match="holds features but no manifest.json"):
        _build(tmp_path)
    (tmp_path / "features" / "fine").rmdir()
    (tmp_path / "features").rmdir()
    (tmp_path / "samples-00000.array_record").write_bytes(b"")
    with pytest.raises(FusionProxyError, match="holds samples but no manifest.json"):
        _build(tmp_path)


def test_each_backbone_is_compiled_once(tmp_path):
    seen = []

    def apply(params, images):
        seen.append(images.shape)
        return images[:, ::8, ::8]

    _build(tmp_path, (Backbone("watched", "", {}, apply),))
    assert seen == [(3, 32, 32, 3)]
