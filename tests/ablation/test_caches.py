"""Caches of rows: samples drawn once, everything else made of them."""

import dataclasses

import numpy as np
import pytest
from ablation_setup import base_on

from fusionproxy_jax.ablation import caches as caches_module
from fusionproxy_jax.ablation.caches import build_caches
from fusionproxy_jax.ablation.plan import panel_names, plan_rows
from fusionproxy_jax.ablation.rows import TABLE_4
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers import beginning
from fusionproxy_jax.teachers.cache import build_cache, open_cache


def _build(base, letters, folder, **options):
    names = panel_names(base)
    planned = plan_rows(base, TABLE_4, names)
    wanted = {planned[one].cache: planned[one].config for one in letters}
    return build_caches(base, wanted, names, folder, **options)


@pytest.fixture(scope="module")
def built(pairs, panel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    return folder, _build(base_on(pairs, panel), "abcmnop", folder)


def test_every_cache_takes_its_samples_from_one_drawing(built):
    folder, caches = built
    samples = open_cache(folder / "samples", allow_rejected=True)
    assert samples.panel == ()
    assert set(caches) == {
        "average_1",
        "average_2",
        "gaussian+average_2",
        "gaussian+average_1",
        "gaussian+average_2_within",
        "gaussian+average_2_features_of_mean",
    }
    for name, cache in caches.items():
        assert cache.directory == folder / name
        assert cache.manifest.samples_of == samples.hash
        assert [entry.name for entry in cache.panel] == ["one#y", "two#y"]
        assert not list(cache.directory.glob("samples-*"))
        assert len(cache) == len(samples) == 4


def test_caches_differ_in_what_their_rows_vary(built):
    _, caches = built
    usual = caches["gaussian+average_2"]
    within = caches["gaussian+average_2_within"]
    of_mean = caches["gaussian+average_2_features_of_mean"]
    single = caches["average_1"]
    assert {entry.target for entry in of_mean.panel} == {"features_of_mean"}
    tiles = zip(usual, within, single, strict=True)
    for one, other, lone in tiles:
        np.testing.assert_array_equal(one["ensemble_mean"], other["ensemble_mean"])
        assert one["ensemble_deviation"].max() > other["ensemble_deviation"].max()
        assert not lone["ensemble_deviation"].any()


def test_what_is_there_is_neither_drawn_nor_loaded_again(
    built, base, tmp_path, monkeypatch
):
    folder, caches = built
    monkeypatch.setattr(caches_module, "load_backbones", None)
    monkeypatch.setattr(beginning.Ensemble, "teachers", _fail_unless_samples)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    again = _build(base, "abcmnop", folder)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert {name: one.hash for name, one in again.items()} == {
        name: one.hash for name, one in caches.items()
    }


def _fail_unless_samples(ensemble, prior):
    # samples/ is looked through for pairs that changed; nothing is drawn for it.
    assert not ensemble.kept
    return beginning.build_teachers(ensemble.config, prior)


def test_samples_may_come_from_a_cache_elsewhere(base, built, tmp_path, panel):
    folder, caches = built
    samples = open_cache(folder / "samples", allow_rejected=True)
    found = _build(base, "ac", tmp_path, samples_of=samples)
    assert not (tmp_path / "samples").exists()
    assert {name: one.hash for name, one in found.items()} == {
        name: caches[name].hash for name in ("average_1", "gaussian+average_2")
    }


def test_a_cache_on_another_grid_is_not_taken_for_the_wanted_one(base, built):
    folder, _ = built
    other = dataclasses.replace(base, panel=dataclasses.replace(base.panel, grid=9))
    with pytest.raises(FusionProxyError, match="its grid was 8, now it is 9"):
        _build(other, "c", folder)


def test_a_killed_build_goes_on(base, tmp_path):
    def interrupt(name, done, total):
        told.append(name)
        if name == "average_1 features" and done == 2:
            raise KeyboardInterrupt

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        _build(base, "ac", tmp_path, progress=interrupt)
    assert dict.fromkeys(told) == dict.fromkeys(
        ["samples", "average_1", "average_1 scale", "average_1 features"]
    )
    assert set(_build(base, "ac", tmp_path)) == {"average_1", "gaussian+average_2"}


def test_samples_of_other_settings_are_refused(base, pairs, tmp_path):
    teacher = dataclasses.replace(base.teacher, seed=1)
    other = dataclasses.replace(base, teacher=teacher)
    samples = open_cache(_samples(base, tmp_path / "one"), allow_rejected=True)
    with pytest.raises(FusionProxyError, match="teacher.seed was 0, now 1"):
        _build(other, "c", tmp_path / "two", samples_of=samples)
    told = "one/samples was built with another configuration .teacher.seed was 0, now 1"
    with pytest.raises(FusionProxyError, match=told):
        _build(other, "c", tmp_path / "one")


def _samples(base, folder):
    _build(dataclasses.replace(base, panel=base.panel), "c", folder)
    return folder / "samples"


def test_without_pairs_there_are_no_caches(base, tmp_path):
    data = dataclasses.replace(base.data, sources=())
    with pytest.raises(FusionProxyError, match="no data source is given"):
        _build(dataclasses.replace(base, data=data), "c", tmp_path)


def test_a_cache_whose_samples_were_not_kept_is_told(base, tmp_path, pairs):
    from fusionproxy_jax.input_pipeline.pairs import load_pairs

    source = load_pairs((str(pairs),))
    cache = build_cache(source, base.teacher, tmp_path / "plain")
    with pytest.raises(FusionProxyError, match="cannot be taken|kept no samples"):
        _build(base, "c", tmp_path / "caches", samples_of=cache)
