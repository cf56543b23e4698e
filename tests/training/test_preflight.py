import shutil
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_training import TinyCache

from fusionproxy_jax.config import (
    Config,
    DataConfig,
    DDFMConfig,
    SalientConfig,
    TeacherConfig,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pairs import load_pairs
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.teachers.cache import TeacherCache
from fusionproxy_jax.teachers.manifest import ImageEntry, Manifest
from fusionproxy_jax.training.preflight import (
    check_cache,
    check_crop,
    check_disk_space,
    check_held_out,
    check_target,
    check_teacher,
    check_workdir,
    tree_bytes,
)

TAUGHT = TeacherConfig(teachers=("gaussian",), num_samples=2, tile_px=64)


def cache_of(ids, config=TAUGHT, directory=Path("cache")):
    """A cache as far as its manifest says what it was made from."""
    images = [ImageEntry(id=name, height=64, width=64, crc32=0) for name in ids]
    return TeacherCache(directory, Manifest.of(config, {}, images))


def refusal(check, *arguments, **options):
    with pytest.raises(FusionProxyError) as caught:
        check(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "wanted",
    [
        TeacherConfig(),
        TAUGHT,
        # Only the path: the cache knows networks by their weights.
        TeacherConfig(ddfm=DDFMConfig(weights="elsewhere.pt")),
        TeacherConfig(num_samples=2, salient=SalientConfig()),
    ],
)
def test_teacher_settings_left_alone_or_those_of_the_cache_are_fine(wanted):
    check_cache(Config(teacher=wanted), cache_of(["a/1"]))


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            TeacherConfig(num_samples=3),
            "teacher.num_samples is 3, but the teacher cache in cache was made with 2",
        ),
        (
            TeacherConfig(teachers=("average", "gaussian")),
            "teacher.teachers is ['average', 'gaussian'], but the teacher cache in "
            "cache was made with ['gaussian']",
        ),
        (
            TeacherConfig(ddfm=DDFMConfig(mode="paper")),
            "teacher.ddfm.mode is 'paper', but the teacher cache in cache was made "
            "with 'salient'",
        ),
        (
            TeacherConfig(salient=SalientConfig(base_gain=1.5)),
            "teacher.salient.base_gain is 1.5, but the teacher cache in cache was made "
            "with 3.0",
        ),
    ],
)
def test_a_teacher_setting_that_contradicts_the_cache_is_refused(wanted, sentence):
    cache = cache_of(["a/1"])
    told = refusal(check_cache, Config(teacher=wanted), cache)
    assert told.startswith(sentence)


def test_what_an_old_cache_does_not_say_has_its_default():
    check_teacher(TeacherConfig(seed=0), {}, directory=Path("cache"))
    told = refusal(check_teacher, TeacherConfig(seed=5), {}, directory=Path("cache"))
    assert "teacher.seed is 5, but" in told and "made with 0;" in told


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder of ten pairs that nobody reads: they are named only."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    for kind in ("visible", "infrared"):
        (root / kind).mkdir(parents=True)
        for index in range(10):
            Image.new("L", (4, 4)).save(root / kind / f"{index}.png")
    return root


def split(pairs, fraction):
    """Names of the pairs that train and that validate."""
    names = load_pairs([pairs]).ids_and_groups
    return [[names[i][0] for i in part] for part in split_pairs(names, fraction)]


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.2])
def test_pairs_that_the_cache_left_out_may_be_held_out(pairs, fraction):
    # The first part of the same order is held out: less of it is never trained on.
    taught, _ = split(pairs, 0.2)
    data = DataConfig(sources=(str(pairs),), validation_fraction=fraction)
    check_held_out(data, taught, directory=Path("cache"))
    check_held_out(DataConfig(), taught, directory=Path("cache"))


def test_pairs_that_the_cache_trains_on_are_never_held_out(pairs):
    taught, held_out = split(pairs, 0.2)
    data = DataConfig(sources=(str(pairs),), validation_fraction=0.4)
    told = refusal(check_held_out, data, taught, directory=Path("cache"))
    _, wanted = split(pairs, 0.4)
    (first, second) = [name for name in wanted if name not in held_out]
    assert f"0.4 of these data.sources holds out {first} and 1 more, which" in told
    config = Config(data=data)
    told = refusal(check_cache, config, cache_of(held_out[:1]))
    assert f"holds out {held_out[0]}, which the teacher cache in cache has" in told


def test_a_run_in_the_folder_of_the_cache_is_refused(tmp_path):
    cache = cache_of(["a/1"], directory=tmp_path)
    check_workdir(tmp_path / "run", cache)
    told = refusal(check_workdir, tmp_path, cache)
    assert "the folder of the teacher cache" in told


def test_crops_larger_than_a_tile_are_refused():
    check_crop(48, TinyCache())
    told = refusal(check_crop, 64, TinyCache())
    assert told.startswith("data.crop_px is 64; tiles of the teacher cache in cache")
    assert "have 48 px" in told


def test_the_size_of_a_tree_is_that_of_its_arrays():
    tree = {
        "a": np.zeros((3, 5), np.float32),
        "b": [jax.ShapeDtypeStruct((7,), jnp.bfloat16), np.zeros((), np.int32)],
    }
    assert tree_bytes(tree) == 60 + 14 + 4


@pytest.fixture
def free(monkeypatch):
    """Sets how much a disk has free; returns the paths that were asked about."""
    asked = []

    def set_free(num_bytes):
        def usage(path):
            asked.append(path)
            return shutil._ntuple_diskusage(10**12, 0, num_bytes)

        monkeypatch.setattr(shutil, "disk_usage", usage)
        return asked

    return set_free


def needs(workdir, **changes):
    values = {"state_bytes": 50_000_000, "keep_checkpoints": 2, "num_drawings": 5}
    check_disk_space(workdir, **{**values, **changes})


def test_a_disk_without_room_for_the_run_is_refused(tmp_path, free):
    asked = free(170_000_000)
    needs(tmp_path / "runs" / "mine")
    assert asked == [tmp_path]
    free(169_000_000)
    told = refusal(needs, tmp_path / "runs" / "mine")
    assert "has 169 MB free, but this run needs about 170 MB (for checkpoints" in told
    assert "3 times 50 MB, and pictures of 5 steps); free some, lower keep" in told
    assert not (tmp_path / "runs").exists()
    free(4_000_000_000_000)
    needs(tmp_path, state_bytes=10**12, num_drawings=0)
    told = refusal(needs, tmp_path, state_bytes=2 * 10**12)
    assert "needs about 6 TB (for checkpoints 3 times 2 TB" in told


def test_checkpoints_that_are_there_need_no_more_room(tmp_path, free):
    free(60_000_000)
    assert "checkpoints 3 times" in refusal(needs, tmp_path, num_drawings=0)
    for step in (100, 200):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    needs(tmp_path, num_drawings=0)
    # Each newer one is written before an older one goes, whatever is kept.
    free(40_000_000)
    assert "checkpoints 1 times" in refusal(needs, tmp_path, num_drawings=0)


def test_a_real_disk_has_room_for_nothing_and_none_for_everything(tmp_path):
    needs(tmp_path, state_bytes=0, num_drawings=0)
    assert "TB" in refusal(needs, tmp_path, state_bytes=10**18)


def test_another_target_than_the_features_have_is_refused():
    entry = types.SimpleNamespace(name="clip", target="features_of_mean")
    cache = types.SimpleNamespace(panel=[entry], directory=Path("cache"))
    for wanted in ("mean_of_features", "features_of_mean"):
        # The default is no wish.
        check_target(wanted, cache)
    entry.target = "mean_of_features"
    words = refusal(check_target, "features_of_mean", cache)
    assert "panel.target is 'features_of_mean', but clip in the teacher cache" in words
    assert "has 'mean_of_features'" in words
