import dataclasses
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from cache_builds import cache_files, make_pair
from compiled_teachers import compiled_once

from fusionproxy_jax.config import DDFMConfig, SalientConfig, TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.loader import make_loader
from fusionproxy_jax.input_pipeline.schema import check_tile
from fusionproxy_jax.teachers import beginning, shards
from fusionproxy_jax.teachers.cache import build_cache, open_cache
from fusionproxy_jax.teachers.manifest import TILES_PER_SHARD
from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.registry import Teacher

CONFIG = TeacherConfig(
    teachers=("gaussian", "average"),
    num_samples=2,
    ddfm=DDFMConfig(mode="balanced", num_steps=2),
    tile_px=32,
)
# One teacher that costs nothing, for tests of files.
AVERAGE = dataclasses.replace(CONFIG, teachers=("average",))

# 6 tiles each and one small image: 25 tiles in two shards.
PAIRS = [*(make_pair(index) for index in range(4)), make_pair(9, height=20, width=30)]


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    with compiled_once():
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return build_cache(PAIRS, CONFIG, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def average(tmp_path_factory):
    return build_cache(PAIRS, AVERAGE, tmp_path_factory.mktemp("average"))


def _same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_every_tile_is_as_the_loader_expects(cache):
    assert len(cache) == 25
    for tile in cache:
        check_tile(tile)
    first, last = cache[0], cache[-1]
    assert first["id"] == "other/0@0,0"
    np.testing.assert_array_equal(first["visible"], PAIRS[0]["visible"][:32, :32])
    assert (last["valid_height"], last["valid_width"]) == (20, 30)
    with pytest.raises(IndexError):
        cache[25]


def test_the_loader_makes_batches_of_a_cache(cache):
    batch = next(make_loader(cache, batch_size=3, crop_px=16, flip=True, seed=0))
    assert batch["ensemble_mean"].shape == (3, 16, 16, 3)
    assert batch["ensemble_variance"].max() > 0


def test_statistics_fit_the_images(cache):
    tile = cache[3]
    assert tile["ensemble_deviation"].max() > 0
    weights = np.array([0.299, 0.587, 0.114])
    fused = tile["ensemble_mean"].astype(np.float64) @ weights
    sources = [tile["visible"] / 255 @ weights, tile["infrared"].astype(np.float64)]
    assert np.all(fused >= np.minimum(*sources) - 0.1)
    assert np.all(fused <= np.maximum(*sources) + 0.1)


def test_each_teachers_mean_is_kept_when_there_are_several(cache, average):
    tile = cache[3]
    means = [tile[f"teacher_mean/{name}"] for name in CONFIG.teachers]
    assert all(mean.dtype == np.float16 for mean in means)
    np.testing.assert_allclose(
        np.mean(means, axis=0, dtype=np.float32), tile["ensemble_mean"], atol=1e-3
    )
    assert np.abs(means[0] - means[1]).max() > 0.05
    # The deviation of both together is what lies between a teacher and their mean.
    np.testing.assert_array_equal(means[1], average[3]["ensemble_mean"])
    assert not any(key.startswith("teacher_mean/") for key in average[3])


def test_the_report_covers_all_tiles_and_every_data_set(cache):
    report = cache.report
    assert (report["num_pairs"], report["num_tiles"]) == (5, 25)
    assert report["teachers"].keys() == {"gaussian", "average"}
    # Every third made-up pair, and the small one, are of the other data set.
    tiles = {name: found["num_tiles"] for name, found in report["datasets"].items()}
    assert tiles == {"other": 13, "made_up": 12}
    assert report["accepted"] is False and report["hash"] == cache.hash


def test_a_second_build_is_the_same_byte_by_byte(cache, tmp_path):
    build_cache(PAIRS, CONFIG, tmp_path / "new" / "folder")
    assert cache_files(tmp_path / "new" / "folder") == cache_files(cache.directory)


def test_a_cache_goes_to_worker_processes(cache):
    cache[0]
    _same([cache[5]], [pickle.loads(pickle.dumps(cache))[5]])


def test_an_interrupted_build_goes_on_where_it_was(average, tmp_path):
    def interrupt(done, total):
        if done > TILES_PER_SHARD + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(PAIRS, AVERAGE, tmp_path, progress=interrupt)
    with pytest.raises(FusionProxyError, match=r"unfinished \(1 of 2 parts"):
        open_cache(tmp_path)
    finished = tmp_path / "shard-00000.array_record"
    before = finished.stat().st_mtime_ns
    calls = []
    build_cache(PAIRS, AVERAGE, tmp_path, progress=lambda done, _: calls.append(done))
    assert finished.stat().st_mtime_ns == before
    assert calls[:3] == [0, TILES_PER_SHARD, TILES_PER_SHARD + 1]
    assert cache_files(tmp_path) == cache_files(average.directory)


def test_leftovers_of_a_killed_build_are_swept_not_those_of_a_living_one(tmp_path):
    build_cache(PAIRS[4:], AVERAGE, tmp_path)
    (tmp_path / "sheets").mkdir()
    dead = [
        tmp_path / ".shard-00000.0a1b.tmp.array_record",
        tmp_path / ".report.0a1b.tmp.json",
        tmp_path / ".shard-00000.lock",
        tmp_path / "sheets" / ".other_9@0,0.0a1b.tmp.png",
    ]
    living = tmp_path / ".shard-00007.0a1b.tmp.array_record"
    for path in (*dead, living):
        path.write_bytes(b"half")
    with owned(tmp_path / "shard-00007.array_record"):
        build_cache(PAIRS[4:], AVERAGE, tmp_path)
    assert living.exists() and not any(path.exists() for path in dead)


def test_processes_draw_their_parts_in_any_order(average, tmp_path):
    calls = []
    first = build_cache(
        PAIRS,
        AVERAGE,
        tmp_path,
        process_index=1,
        process_count=3,
        progress=lambda *numbers: calls.append(numbers),
    )
    assert first is None and calls[-1] == (9, 9)
    assert [path.stem for path in tmp_path.glob("*.array_record")] == ["shard-00001"]
    with pytest.raises(FusionProxyError, match=r"unfinished \(1 of 2 parts"):
        open_cache(tmp_path)
    # More processes than shards: one has nothing to do.
    assert (
        build_cache(PAIRS, AVERAGE, tmp_path, process_index=2, process_count=3) is None
    )
    last = build_cache(PAIRS, AVERAGE, tmp_path, process_index=0, process_count=3)
    assert last.report == average.report
    assert cache_files(tmp_path) == cache_files(average.directory)


def test_all_processes_use_the_prior_of_the_first(tmp_path):
    part = {"process_index": 0, "process_count": 2}
    build_cache(PAIRS, CONFIG, tmp_path / "a", prior_source=PAIRS[:1], **part)
    prior = (tmp_path / "a" / "prior.npz").read_bytes()
    rest = build_cache(PAIRS, CONFIG, tmp_path / "a", process_index=1, process_count=2)
    assert (tmp_path / "a" / "prior.npz").read_bytes() == prior
    whole = build_cache(PAIRS, CONFIG, tmp_path / "b", prior_source=PAIRS[:1])
    _same(rest, whole)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((2, 2), "process_index is 2; of 2 processes it must be 0 to 1"),
        ((-1, 2), "process_index is -1"),
        ((0, 0), "process_count is 0; it must be at least 1"),
        ((1, None), "process_index is 1 and process_count None; give both"),
        ((None, 2), "give both or neither"),
    ],
)
def test_processes_that_cannot_be_are_refused(tmp_path, numbers, told):
    index, count = numbers
    with pytest.raises(FusionProxyError, match=told):
        build_cache(
            PAIRS, AVERAGE, tmp_path / "a", process_index=index, process_count=count
        )
    assert not (tmp_path / "a").exists()


def test_a_rejected_cache_is_opened_only_on_request(average):
    told = "failed its gate, it does not hold: every teacher's samples differ"
    with pytest.raises(FusionProxyError, match=told):
        open_cache(average.directory)
    assert len(open_cache(average.directory, allow_rejected=True)) == 25


def test_an_override_is_recorded_without_drawing_and_stays(tmp_path):
    build_cache(PAIRS[4:], AVERAGE, tmp_path)
    shard = tmp_path / "shard-00000.array_record"
    before = shard.stat().st_mtime_ns
    accepted = build_cache(PAIRS[4:], AVERAGE, tmp_path, accept_failed_gate=True)
    assert accepted.report["accepted"] == "by override"
    assert not all(accepted.report["passed"].values())
    again = build_cache(PAIRS[4:], AVERAGE, tmp_path)
    assert again.report["accepted"] == "by override"
    assert shard.stat().st_mtime_ns == before
    assert len(open_cache(tmp_path)) == 1


def test_an_ensemble_that_passes_needs_no_override(tmp_path):
    config = dataclasses.replace(CONFIG, teachers=("gaussian",), num_samples=4)
    pair = make_pair(0, 32, 32)
    # Sources agree in one half of smooth images and disagree in the other.
    smooth = np.linspace(0.3, 0.5, 32, dtype=np.float32) * np.ones((32, 1), np.float32)
    infrared = smooth + np.where(np.arange(32) < 16, 0.0, 0.35)
    visible = np.round(255 * np.repeat(smooth[..., None], 3, -1)).astype(np.uint8)
    pair |= {"visible": visible, "infrared": infrared.astype(np.float32)}

    def two_opinions(visible, infrared, keys, num_samples):
        middle = (visible + infrared[..., None]) / 2
        gap = np.abs(infrared[..., None] - visible)
        signs = np.array([-1, 1, -1, 1], np.float32)[:num_samples]
        return middle[:, None] + 0.1 * gap[:, None] * signs[:, None, None, None]

    teacher = Teacher("gaussian", "", two_opinions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beginning, "build_teachers", lambda *_: (teacher,))
        cache = build_cache([pair], config, tmp_path, accept_failed_gate=True)
    assert all(cache.report["passed"].values()), cache.report
    assert cache.report["accepted"] is True
    assert len(open_cache(tmp_path)) == 1


def test_a_cache_whose_report_is_missing_is_unfinished(tmp_path):
    build_cache(PAIRS[4:], AVERAGE, tmp_path, accept_failed_gate=True)
    report = tmp_path / "report.json"
    for damage in (report.unlink, lambda: report.write_text('{"accepted": tr')):
        damage()
        with pytest.raises(FusionProxyError, match=r"unfinished \(no report\)"):
            open_cache(tmp_path)
    assert build_cache(PAIRS[4:], AVERAGE, tmp_path).report["accepted"] is False


def test_sheets_show_tiles_evenly_spread_and_come_late_if_need_be(average, tmp_path):
    build_cache(PAIRS, AVERAGE, tmp_path, num_sheets=3)
    sheets = cache_files(tmp_path / "sheets")
    assert sheets.keys() == {"other_0@0,0.png", "made_up_2@0,0.png", "other_9@0,0.png"}
    shard = tmp_path / "shard-00000.array_record"
    before = shard.stat().st_mtime_ns
    for name in sheets:
        (tmp_path / "sheets" / name).unlink()
    build_cache(PAIRS, AVERAGE, tmp_path, num_sheets=3)
    assert cache_files(tmp_path / "sheets") == sheets
    assert shard.stat().st_mtime_ns == before
    files = cache_files(tmp_path)
    assert {k: v for k, v in files.items() if "/" not in k} == cache_files(
        average.directory
    )


def test_no_name_is_taken_before_its_file_is_whole(tmp_path, monkeypatch):
    class FullDisk:
        def __init__(self, path, options):
            self.path = Path(path)

        def write(self, record):
            self.path.write_bytes(record[:10])
            raise RuntimeError("No space left on device")

    monkeypatch.setattr(shards, "ArrayRecordWriter", FullDisk)
    with pytest.raises(FusionProxyError, match="could not write .*No space left"):
        build_cache(PAIRS[4:], AVERAGE, tmp_path)
    assert not list(tmp_path.glob("*.array_record"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"ddfm": DDFMConfig(mode="paper", num_steps=2)},
            "teacher.ddfm.mode was 'balanced', now 'paper'",
        ),
        ({"tile_px": 64}, "teacher.tile_px was 32, now 64"),
        ({"teachers": ("average",)}, r"teacher.teachers was \['gaussian', 'average'\]"),
        (
            {"salient": SalientConfig(detail_gain=2.0)},
            "teacher.salient.detail_gain was 1.15, now 2.0",
        ),
    ],
)
def test_another_teacher_may_not_use_the_folder(cache, change, told):
    config = dataclasses.replace(CONFIG, **change)
    with pytest.raises(FusionProxyError, match=told):
        build_cache(PAIRS, config, cache.directory)


def test_weights_count_by_what_they_are_not_by_their_path(tmp_path, monkeypatch):
    def build(weights, fingerprint):
        teachers = (Teacher("ddfm", fingerprint, _half),)
        monkeypatch.setattr(beginning, "build_teachers", lambda *_: teachers)
        ddfm = dataclasses.replace(CONFIG.ddfm, weights=weights)
        config = dataclasses.replace(CONFIG, teachers=("ddfm",), ddfm=ddfm)
        return build_cache(PAIRS[4:], config, tmp_path)

    first = build("one/file.pt", "abcd")
    assert build("moved/there.pt", "abcd").hash == first.hash
    with pytest.raises(FusionProxyError, match="teacher ddfm had other weights"):
        build("one/file.pt", "cdef")


def _half(visible, infrared, keys, num_samples):
    return np.full((len(keys), num_samples, *visible.shape[1:]), 0.5, np.float32)


def test_other_pairs_may_not_use_the_folder(cache):
    with pytest.raises(FusionProxyError, match="holds 5 pairs, now there are 4"):
        build_cache(PAIRS[:4], CONFIG, cache.directory)
    renamed = [*PAIRS[:4], PAIRS[4] | {"id": "made_up/new"}]
    with pytest.raises(FusionProxyError, match="'other/9' is now 'made_up/new'"):
        build_cache(renamed, CONFIG, cache.directory)
    repainted = [*PAIRS[:4], PAIRS[4] | {"visible": 255 - PAIRS[4]["visible"]}]
    with pytest.raises(FusionProxyError, match="images of pair 'other/9'"):
        build_cache(repainted, CONFIG, cache.directory)


def test_the_hash_changes_with_anything_that_matters(cache, tmp_path):
    other = build_cache(
        PAIRS[4:], dataclasses.replace(CONFIG, seed=1), tmp_path / "seed"
    )
    same = build_cache(PAIRS[4:], CONFIG, tmp_path / "same")
    assert len({cache.hash, other.hash, same.hash}) == 3
    assert json.loads(other.config_json)["seed"] == 1
    assert np.any(other[0]["ensemble_mean"] != same[0]["ensemble_mean"])


def _spoil(path, position, length=64):
    with open(path, "r+b") as file:
        file.seek(position)
        old = file.read(length)
        file.seek(position)
        file.write(bytes(byte ^ 255 for byte in old))


@pytest.mark.parametrize("damage", ["record", "truncated", "empty"])
def test_a_damaged_shard_is_named_and_can_be_drawn_again(average, tmp_path, damage):
    build_cache(PAIRS, AVERAGE, tmp_path)
    path = tmp_path / "shard-00001.array_record"
    if damage == "record":
        _spoil(path, 5000)
    else:
        os.truncate(path, 20_000 if damage == "truncated" else 0)
    with pytest.raises(FusionProxyError, match="shard-00001.array_record is damaged"):
        list(open_cache(tmp_path, allow_rejected=True))
    path.unlink()
    build_cache(PAIRS, AVERAGE, tmp_path)
    assert cache_files(tmp_path) == cache_files(average.directory)


@pytest.mark.parametrize("damage", ["", "{}", '{"other": {}}', None])
def test_a_shard_without_its_statistics_is_drawn_again(average, tmp_path, damage):
    build_cache(PAIRS, AVERAGE, tmp_path)
    statistics = tmp_path / "shard-00000.json"
    if damage is None:
        statistics.unlink()
    else:
        statistics.write_text(damage)
    build_cache(PAIRS, AVERAGE, tmp_path)
    assert cache_files(tmp_path) == cache_files(average.directory)


def test_a_damaged_manifest_is_named(tmp_path):
    build_cache(PAIRS[4:], AVERAGE, tmp_path)
    path = tmp_path / "manifest.json"
    text = path.read_text()
    path.write_text(text[:50])
    with pytest.raises(FusionProxyError, match="manifest.json is damaged"):
        open_cache(tmp_path)
    path.write_text(text.replace('"num_steps": 2', '"num_steps": 9'))
    with pytest.raises(FusionProxyError, match="manifest.json was edited"):
        open_cache(tmp_path)
    path.write_text(text.replace('"format": 2', '"format": 1'))
    with pytest.raises(FusionProxyError, match="has cache format 1, this version"):
        open_cache(tmp_path)


def test_a_folder_without_a_cache_is_refused(tmp_path):
    with pytest.raises(FusionProxyError, match="holds no teacher cache"):
        open_cache(tmp_path / "nothing")


def test_shards_without_a_manifest_are_not_taken_over(tmp_path):
    (tmp_path / "shard-00000.array_record").write_bytes(b"")
    with pytest.raises(FusionProxyError, match="holds shards but no manifest.json"):
        build_cache(PAIRS[4:], AVERAGE, tmp_path)


def test_a_cache_cannot_be_made_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FusionProxyError, match="could not make the cache folder"):
        build_cache(PAIRS[4:], AVERAGE, tmp_path / "file" / "cache")


def test_no_pairs_make_no_cache(tmp_path):
    with pytest.raises(FusionProxyError, match="at least one pair"):
        build_cache([], AVERAGE, tmp_path)


@pytest.mark.parametrize("tiles_per_draw", [0, 17])
def test_draws_larger_than_a_shard_or_empty_are_refused(tmp_path, tiles_per_draw):
    with pytest.raises(FusionProxyError, match="must be 1 to 16, the tiles of one"):
        build_cache(PAIRS[4:], AVERAGE, tmp_path, tiles_per_draw=tiles_per_draw)


def test_progress_is_told_from_nothing_to_all(tmp_path):
    calls = []
    build_cache(
        PAIRS[:1], AVERAGE, tmp_path, progress=lambda *numbers: calls.append(numbers)
    )
    assert calls[0] == (0, 6) and calls[-1] == (6, 6)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
