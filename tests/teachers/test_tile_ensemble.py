import dataclasses

import jax
import numpy as np
import pytest
from cache_builds import make_pair

from fusionproxy_jax.config import DDFMConfig, TeacherConfig
from fusionproxy_jax.teachers.manifest import Manifest
from fusionproxy_jax.teachers.registry import Teacher, build_teachers
from fusionproxy_jax.teachers.tile_ensemble import survey, teach_tiles, teacher_key

CONFIG = TeacherConfig(
    teachers=("gaussian",),
    num_samples=2,
    ddfm=DDFMConfig(mode="balanced", num_steps=2),
    tile_px=32,
)
PAIRS = [make_pair(0), make_pair(1, height=20, width=30)]


@pytest.fixture(scope="module")
def surveyed():
    return survey(PAIRS)


def _teach(surveyed, teachers, tiles=None, **options):
    images, _ = surveyed
    config = dataclasses.replace(CONFIG, teachers=tuple(t.name for t in teachers))
    manifest = Manifest.of(config, {}, images)
    tiles = manifest.tiles if tiles is None else [manifest.tiles[n] for n in tiles]
    return list(teach_tiles(PAIRS, manifest, tiles, config, teachers, **options))


@pytest.fixture(scope="module")
def gaussian(surveyed):
    return build_teachers(CONFIG, surveyed[1])


@pytest.fixture(scope="module")
def one_by_one(surveyed, gaussian):
    return _teach(surveyed, gaussian)


def test_tiles_are_the_same_in_a_batch_spread_over_devices(
    surveyed, gaussian, one_by_one
):
    assert jax.local_device_count() == 2
    together = _teach(surveyed, gaussian, tiles_per_draw=4)
    assert len(together) == len(one_by_one) == 7
    for one, other in zip(together, one_by_one, strict=True):
        assert one.record["id"] == other.record["id"]
        np.testing.assert_allclose(one.samples, other.samples, atol=1e-4)


def test_tiles_are_the_same_in_any_company(surveyed, gaussian, one_by_one):
    for place, taught in zip([5, 2], _teach(surveyed, gaussian, [5, 2]), strict=True):
        np.testing.assert_array_equal(taught.samples, one_by_one[place].samples)


def test_another_teacher_does_not_change_the_samples_of_one(
    surveyed, gaussian, one_by_one
):
    average = Teacher("average", "", _half)
    (both,) = _teach(surveyed, (average, *gaussian), [3])
    np.testing.assert_array_equal(both.samples[1], one_by_one[3].samples[0])
    np.testing.assert_array_equal(both.samples[0], 0.5)


def _half(visible, infrared, keys, num_samples):
    return np.full((len(keys), num_samples, *visible.shape[1:]), 0.5, np.float32)


@pytest.mark.parametrize(
    ("tiles_per_draw", "devices", "draws"), [(1, 1, 7), (3, 1, 3), (4, 2, 2)]
)
def test_a_draw_is_full_and_uses_the_devices_that_divide_it(
    surveyed, tiles_per_draw, devices, draws
):
    seen = []

    def draw(visible, infrared, keys, num_samples):
        seen.append((visible.shape, infrared.shape, keys.shape))
        used = [len(array.sharding.device_set) for array in (visible, infrared, keys)]
        assert used == [devices] * 3
        return _half(visible, infrared, keys, num_samples)

    taught = _teach(
        surveyed, (Teacher("average", "", draw),), tiles_per_draw=tiles_per_draw
    )
    assert len(taught) == 7
    b = tiles_per_draw
    assert seen == [((b, 32, 32, 3), (b, 32, 32), (b,))] * draws


def test_keys_differ_with_seed_tile_and_teacher():
    keys = [
        teacher_key(seed, tile, teacher)
        for seed in (0, 1)
        for tile in ("a@0,0", "a@0,9")
        for teacher in ("ddfm", "mask_difuser", "gaussian")
    ]
    data = [tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys]
    assert len(set(data)) == 12
    again = jax.random.key_data(teacher_key(0, "a@0,0", "ddfm"))
    assert tuple(np.asarray(again).tolist()) == data[0]


def test_samples_are_measured_on_the_valid_part_and_kept_as_eq_5(one_by_one):
    last = one_by_one[-1]
    assert last.statistics.num_pixels[-1] == 20 * 30
    variance = last.samples[0].var(axis=0).mean(axis=-1)
    kept = last.record["ensemble_deviation"]
    np.testing.assert_allclose(kept, np.sqrt(variance), atol=1e-3)
    valid = variance[:20, :30]
    assert last.statistics.total[-1] == pytest.approx(valid.sum(), rel=1e-3)


def test_the_survey_sees_every_pixel(surveyed):
    images, prior = surveyed
    changed = dict(PAIRS[1], infrared=PAIRS[1]["infrared"].copy())
    changed["infrared"][-1, -1] += 0.1
    other_images, other_prior = survey([PAIRS[0], changed])
    assert other_images[0] == images[0] and other_images[1] != images[1]
    assert other_prior.mean != prior.mean
