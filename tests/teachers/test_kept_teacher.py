"""Caches whose samples are taken from those another cache kept."""

import dataclasses

import numpy as np
import pytest
from cache_builds import cache_files, make_pair
from compiled_teachers import compiled_once
from strided_backbones import tiny_backbone

from fusionproxy_jax.config import DDFMConfig, PanelConfig, TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.images import read_visible
from fusionproxy_jax.teachers import beginning
from fusionproxy_jax.teachers.cache import build_cache
from fusionproxy_jax.teachers.registry import Teacher
from fusionproxy_jax.teachers.samples import read_samples, samples_path

CONFIG = TeacherConfig(
    teachers=("ddfm", "gaussian"),
    num_samples=3,
    ddfm=DDFMConfig(mode="balanced", num_steps=2),
    tile_px=32,
)
# 18 tiles in two shards.
PAIRS = [make_pair(index) for index in range(3)]
PANEL = {"panel": (tiny_backbone(),), "panel_config": PanelConfig(grid=6)}


@pytest.fixture(scope="module", autouse=True)
def _few_teachers():
    """`gaussian` is real; `ddfm` draws noise around the visible image."""
    with compiled_once(), pytest.MonkeyPatch.context() as patch:
        build = beginning.build_teachers

        def with_noise(config, prior):
            others = tuple(name for name in config.teachers if name != "ddfm")
            built = {}
            if others:
                settings = dataclasses.replace(config, teachers=others)
                built = {each.name: each for each in build(settings, prior)}
            built["ddfm"] = Teacher("ddfm", "f0", _noise)
            return tuple(built[name] for name in config.teachers)

        patch.setattr(beginning, "build_teachers", with_noise)
        yield


def _noise(visible, infrared, keys, num_samples):
    samples = [
        np.asarray(visible) + np.sin(11 * (n + 1) * np.asarray(infrared))[..., None] / 9
        for n in range(num_samples)
    ]
    return np.stack(samples, axis=1)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return build_cache(
        PAIRS, CONFIG, tmp_path_factory.mktemp("kept"), keep_samples=True
    )


def _take(kept, directory, *, pairs=PAIRS, options=None, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return build_cache(pairs, config, directory, samples_of=kept, **(options or {}))


def _samples(cache):
    return [
        one
        for number, size in ((0, 16), (1, 2))
        for one in read_samples(samples_path(cache.directory, number), range(size))
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_samples": 2},
        {"teachers": ("gaussian",)},
        {"teachers": ("gaussian", "average", "ddfm"), "num_samples": 1},
        {"variance": "within"},
    ],
)
def test_taken_samples_are_those_a_build_would_draw_but_for_eight_bits(
    kept, tmp_path, changes
):
    keep = {"keep_samples": True}
    taken = _take(kept, tmp_path / "taken", options=keep, **changes)
    config = dataclasses.replace(CONFIG, **changes)
    drawn = build_cache(PAIRS, config, tmp_path / "drawn", **keep)
    for one, other in zip(_samples(taken), _samples(drawn), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(taken) == len(drawn) == 18
    for one, other in zip(taken, drawn, strict=True):
        assert one.keys() == other.keys()
        for key in ("id", "valid_height", "visible", "infrared"):
            np.testing.assert_array_equal(one[key], other[key])
    assert taken.report["num_tiles"] == 18


def test_statistics_of_taken_samples_are_those_of_the_kept_ones(kept, tmp_path):
    cache = _take(kept, tmp_path, teachers=("gaussian", "ddfm"), num_samples=2)
    for tile, samples in zip(cache, _samples(kept), strict=True):
        chosen = samples[[3, 4, 0, 1]] / 255
        np.testing.assert_allclose(tile["ensemble_mean"], chosen.mean(0), atol=1e-3)
        deviation = np.sqrt(chosen.var(axis=0).mean(axis=-1))
        np.testing.assert_allclose(tile["ensemble_deviation"], deviation, atol=1e-3)
        np.testing.assert_allclose(
            tile["teacher_mean/ddfm"], chosen[2:].mean(0), atol=1e-3
        )


def test_the_variance_within_leaves_out_what_teachers_disagree_on(kept, tmp_path):
    cache = _take(kept, tmp_path, variance="within")
    for tile, whole, samples in zip(cache, kept, _samples(kept), strict=True):
        of_teachers = (samples / 255).reshape(2, 3, 32, 32, 3).var(axis=1).mean(-1)
        np.testing.assert_allclose(
            tile["ensemble_deviation"], np.sqrt(of_teachers.mean(0)), atol=1e-3
        )
        assert tile["ensemble_deviation"].mean() < 0.9 * whole[
            "ensemble_deviation"
        ].mean(dtype=np.float32)


def test_a_single_sample_of_each_teacher_has_no_variance_within(kept, tmp_path):
    cache = _take(kept, tmp_path, variance="within", num_samples=1)
    assert all(not tile["ensemble_deviation"].any() for tile in cache)


def test_nothing_is_drawn_or_loaded_but_the_average(kept, tmp_path, monkeypatch):
    asked = []
    build = beginning.build_teachers

    def build_teachers(config, prior):
        asked.append(config.teachers)
        return build(config, prior)

    monkeypatch.setattr(beginning, "build_teachers", build_teachers)
    _take(kept, tmp_path / "a")
    assert asked == []
    _take(kept, tmp_path / "b", teachers=("gaussian", "average"))
    assert asked == [("average",)]


def test_a_cache_of_taken_samples_is_another_than_one_of_drawn_ones(kept, tmp_path):
    taken = _take(kept, tmp_path)
    assert taken.manifest.samples_of == kept.hash
    assert taken.manifest.fingerprints == kept.manifest.fingerprints
    assert taken.hash != kept.hash
    prior = (tmp_path / "prior.npz").read_bytes()
    assert prior == (kept.directory / "prior.npz").read_bytes()
    told = f"samples were taken from cache {kept.hash}, now they are drawn"
    with pytest.raises(FusionProxyError, match=told):
        build_cache(PAIRS, CONFIG, tmp_path)
    with pytest.raises(FusionProxyError, match="were drawn, now they are taken from"):
        _take(kept, kept.directory)


def test_an_interrupted_build_goes_on_and_ends_the_same(kept, tmp_path):
    def interrupt(done, total):
        if done > 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _take(kept, tmp_path / "cut", options={**PANEL, "progress": interrupt})
    _take(kept, tmp_path / "cut", options=PANEL)
    _take(kept, tmp_path / "whole", options=PANEL)
    files = cache_files(tmp_path / "cut")
    assert files == cache_files(tmp_path / "whole")
    assert not any("samples" in name for name in files)


def test_a_panel_added_later_sees_the_taken_samples(kept, tmp_path):
    at_once = _take(kept, tmp_path / "at_once", options=PANEL)
    _take(kept, tmp_path / "later")
    later = _take(kept, tmp_path / "later", options=PANEL)
    assert cache_files(later.directory) == cache_files(at_once.directory)
    assert len(later.panel) == 1


def test_samples_may_be_taken_from_taken_ones(kept, tmp_path):
    keep = {"keep_samples": True}
    first = _take(kept, tmp_path / "first", options=keep, num_samples=2)
    second = _take(first, tmp_path / "second", teachers=("gaussian",), num_samples=1)
    direct = _take(kept, tmp_path / "direct", teachers=("gaussian",), num_samples=1)
    for one, other in zip(second, direct, strict=True):
        np.testing.assert_array_equal(one["ensemble_mean"], other["ensemble_mean"])
    assert second.manifest.samples_of == first.hash


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"teachers": ("ddfm", "mask_difuser")},
            "has samples of ddfm, gaussian, not of mask_difuser; take teachers from",
        ),
        ({"teachers": ("average",)}, "of ddfm, gaussian, not of average; take"),
        (
            {"num_samples": 4},
            "num_samples is 4, and .* has 3 samples of each .* most 3",
        ),
        ({"seed": 1}, r"cannot be taken \(teacher.seed was 0, now 1\); give the pairs"),
        ({"tile_px": 64}, "teacher.tile_px was 32, now 64"),
        ({"tiles_per_image": 1}, "teacher.tiles_per_image was None, now 1"),
        (
            {"ddfm": DDFMConfig(mode="paper", num_steps=2)},
            "teacher.ddfm.mode was 'balanced', now 'paper'",
        ),
        (
            {"ddfm": dataclasses.replace(CONFIG.ddfm, weights="other.pt")},
            "teacher.ddfm.weights was 'compact', now 'other.pt'",
        ),
        ({"pairs": PAIRS[:2]}, "it holds 3 pairs, now there are 2"),
        (
            {"pairs": [*PAIRS[:2], PAIRS[2] | {"visible": 255 - PAIRS[2]["visible"]}]},
            "the images of pair 'made_up/2' have changed",
        ),
    ],
)
def test_samples_that_would_have_been_drawn_otherwise_are_refused_before_a_folder_is(
    kept, tmp_path, changes, told
):
    with pytest.raises(FusionProxyError, match=told):
        _take(kept, tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_weights_that_no_teacher_reads_may_be_others(kept, tmp_path):
    # `gaussian` has the settings of ddfm, but no weights.
    other = dataclasses.replace(CONFIG.ddfm, weights="other.pt")
    assert len(_take(kept, tmp_path, teachers=("gaussian",), ddfm=other)) == 18


def test_samples_that_were_not_kept_are_told(tmp_path):
    average = dataclasses.replace(CONFIG, teachers=("average",))
    cache = build_cache(PAIRS, average, tmp_path / "a")
    told = "a kept no samples of 2 of its 2 parts; build that cache in another"
    with pytest.raises(FusionProxyError, match=told):
        build_cache(PAIRS, average, tmp_path / "b", samples_of=cache)
    cache = build_cache(PAIRS, average, tmp_path / "c", keep_samples=True)
    samples_path(cache.directory, 1).unlink()
    with pytest.raises(FusionProxyError, match="kept no samples of 1 of its 2 parts"):
        build_cache(PAIRS, average, tmp_path / "b", samples_of=cache)


def test_samples_of_other_tiles_and_damaged_ones_are_named(tmp_path):
    average = dataclasses.replace(CONFIG, teachers=("average",))
    cache = build_cache(PAIRS, average, tmp_path / "a", keep_samples=True)
    first, second = (samples_path(cache.directory, number) for number in (0, 1))
    whole = first.read_bytes()
    first.write_bytes(second.read_bytes())
    told = "samples-00000.array_record holds samples of .* for .* build that cache"
    with pytest.raises(FusionProxyError, match=told):
        build_cache(PAIRS, average, tmp_path / "b", samples_of=cache)
    first.write_bytes(whole[:-900])
    with pytest.raises(FusionProxyError, match="samples-00000.array_record is damaged"):
        build_cache(PAIRS, average, tmp_path / "c", samples_of=cache)


def test_processes_share_the_taking(kept, tmp_path):
    whole = _take(kept, tmp_path / "whole", options=PANEL)
    part = {"process_count": 2, **PANEL}
    first = {"process_index": 0, **part}
    assert _take(kept, tmp_path / "shared", options=first) is None
    _take(kept, tmp_path / "shared", options={"process_index": 1, **part})
    assert cache_files(tmp_path / "shared") == cache_files(whole.directory)


def test_sheets_show_taken_samples(kept, tmp_path):
    for name, samples_of in (("taken", kept), ("drawn", None)):
        config = dataclasses.replace(CONFIG, teachers=("average", "gaussian"))
        options = {"num_sheets": 2, "samples_of": samples_of}
        build_cache(PAIRS, config, tmp_path / name, **options)
    taken, drawn = (
        {path.name: read_visible(path).astype(int) for path in folder.iterdir()}
        for folder in (tmp_path / "taken" / "sheets", tmp_path / "drawn" / "sheets")
    )
    assert taken.keys() == drawn.keys() and len(taken) == 2
    for name, sheet in taken.items():
        # The deviation is drawn as a share of its largest value.
        assert np.abs(sheet - drawn[name]).max() <= 4
