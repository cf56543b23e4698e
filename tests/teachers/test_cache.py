import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.loader import make_loader
from fusionproxy_jax.input_pipeline.schema import check_tile
from fusionproxy_jax.teachers.cache import build_cache, open_cache
from fusionproxy_jax.teachers.manifest import TILES_PER_SHARD

CONFIG = TeacherConfig(mode="balanced", tile_px=32, num_samples=2, num_steps=2)


def _pair(index, height=40, width=70):
    rng = np.random.default_rng(index)
    return {
        "id": f"made_up/{index}",
        "group": f"made_up/{index}",
        "visible": rng.integers(0, 256, (height, width, 3), np.uint8),
        "infrared": rng.random((height, width), np.float32),
    }


# 6 tiles each and one small image: 25 tiles in two shards.
PAIRS = [*(_pair(index) for index in range(4)), _pair(9, height=20, width=30)]

# Builds the same cache slowly enough to be killed between two tiles.
CHILD = """
import sys, time
from test_cache import CONFIG, PAIRS
from fusionproxy_jax.teachers.cache import build_cache

def slow(done, total):
    print(done, flush=True)
    time.sleep(0.05)

build_cache(PAIRS, CONFIG, sys.argv[1], progress=slow)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return build_cache(PAIRS, CONFIG, tmp_path_factory.mktemp("cache"))


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
    assert first["id"] == "made_up/0@0,0"
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


def test_a_second_build_draws_the_same_tiles(cache, tmp_path):
    _same(cache, build_cache(PAIRS, CONFIG, tmp_path / "new" / "folder"))


def test_a_cache_goes_to_worker_processes(cache):
    cache[0]
    _same([cache[5]], [pickle.loads(pickle.dumps(cache))[5]])


def test_a_killed_build_goes_on_where_it_was(cache, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        cwd=os.path.dirname(__file__),
        env=os.environ | {"PYTHONPATH": os.path.dirname(__file__)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        for line in child.stdout:
            if int(line) > TILES_PER_SHARD + 2:
                child.send_signal(signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    with pytest.raises(FusionProxyError, match=r"unfinished \(1 of 2 parts"):
        open_cache(tmp_path)
    finished = tmp_path / "shard-00000.array_record"
    before = finished.stat().st_mtime_ns
    calls = []
    resumed = build_cache(
        PAIRS, CONFIG, tmp_path, progress=lambda done, total: calls.append(done)
    )
    assert finished.stat().st_mtime_ns == before
    assert calls[:3] == [0, TILES_PER_SHARD, TILES_PER_SHARD + 1]
    _same(cache, resumed)
    assert resumed.report == cache.report


def test_leftovers_of_a_killed_build_are_swept(tmp_path):
    build_cache(PAIRS[4:], CONFIG, tmp_path)
    leftover = tmp_path / ".shard-00000.0a1b.tmp.array_record"
    leftover.write_bytes(b"half a shard")
    build_cache(PAIRS[4:], CONFIG, tmp_path)
    assert not leftover.exists()


def test_no_name_is_taken_before_its_file_is_whole(tmp_path, monkeypatch):
    from fusionproxy_jax.teachers import cache as module

    class FullDisk:
        def __init__(self, path, options):
            self.path = Path(path)

        def write(self, record):
            self.path.write_bytes(record[:10])
            raise RuntimeError("No space left on device")

    monkeypatch.setattr(module, "ArrayRecordWriter", FullDisk)
    with pytest.raises(FusionProxyError, match="could not write .*No space left"):
        build_cache(PAIRS[4:], CONFIG, tmp_path)
    assert not list(tmp_path.glob("*.array_record"))
    assert not list(tmp_path.glob(".*.tmp.*"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mode": "paper"}, "teacher.mode was 'balanced', now 'paper'"),
        ({"num_steps": 3}, "teacher.num_steps was 2, now 3"),
        ({"tile_px": 64}, "teacher.tile_px was 32, now 64"),
    ],
)
def test_another_teacher_may_not_use_the_folder(cache, change, told):
    config = dataclasses.replace(CONFIG, **change)
    with pytest.raises(FusionProxyError, match=told):
        build_cache(PAIRS, config, cache.directory)


def test_other_pairs_may_not_use_the_folder(cache):
    with pytest.raises(FusionProxyError, match="holds 5 pairs, now there are 4"):
        build_cache(PAIRS[:4], CONFIG, cache.directory)
    renamed = [*PAIRS[:4], PAIRS[4] | {"id": "made_up/new"}]
    with pytest.raises(FusionProxyError, match="'made_up/9' is now 'made_up/new'"):
        build_cache(renamed, CONFIG, cache.directory)
    repainted = [*PAIRS[:4], PAIRS[4] | {"visible": 255 - PAIRS[4]["visible"]}]
    with pytest.raises(FusionProxyError, match="images of pair 'made_up/9'"):
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
def test_a_damaged_shard_is_named_and_can_be_drawn_again(cache, tmp_path, damage):
    build_cache(PAIRS, CONFIG, tmp_path)
    path = tmp_path / "shard-00001.array_record"
    if damage == "record":
        _spoil(path, 5000)
    else:
        os.truncate(path, 20_000 if damage == "truncated" else 0)
    with pytest.raises(FusionProxyError, match="shard-00001.array_record is damaged"):
        list(open_cache(tmp_path))
    path.unlink()
    _same(cache, build_cache(PAIRS, CONFIG, tmp_path))


@pytest.mark.parametrize("damage", ["", "{}", None])
def test_a_shard_without_its_statistics_is_drawn_again(cache, tmp_path, damage):
    build_cache(PAIRS, CONFIG, tmp_path)
    statistics = tmp_path / "shard-00000.json"
    whole = statistics.read_text()
    if damage is None:
        statistics.unlink()
    else:
        statistics.write_text(damage)
    again = build_cache(PAIRS, CONFIG, tmp_path)
    _same(cache, again)
    assert statistics.read_text() == whole
    assert again.report == cache.report


def test_a_damaged_manifest_is_named(tmp_path):
    build_cache(PAIRS[4:], CONFIG, tmp_path)
    path = tmp_path / "manifest.json"
    text = path.read_text()
    path.write_text(text[:50])
    with pytest.raises(FusionProxyError, match="manifest.json is damaged"):
        open_cache(tmp_path)
    path.write_text(text.replace('"num_steps": 2', '"num_steps": 9'))
    with pytest.raises(FusionProxyError, match="manifest.json was edited"):
        open_cache(tmp_path)


def test_a_folder_without_a_cache_is_refused(tmp_path):
    with pytest.raises(FusionProxyError, match="holds no teacher cache"):
        open_cache(tmp_path / "nothing")


def test_a_cache_cannot_be_made_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FusionProxyError, match="could not make the cache folder"):
        build_cache(PAIRS[4:], CONFIG, tmp_path / "file" / "cache")


def test_no_pairs_make_no_cache(tmp_path):
    with pytest.raises(FusionProxyError, match="at least one pair"):
        build_cache([], CONFIG, tmp_path)


def test_progress_is_told_from_nothing_to_all(tmp_path):
    calls = []
    build_cache(
        PAIRS[:1], CONFIG, tmp_path, progress=lambda *numbers: calls.append(numbers)
    )
    assert calls[0] == (0, 6) and calls[-1] == (6, 6)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
