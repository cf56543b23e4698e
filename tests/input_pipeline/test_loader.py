"""The loader is endless, seeded, shared between processes, and resumes exactly."""

import collections

import numpy as np
import pytest
from tiles import Tiles, make_tile, tile_indices

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.loader import make_loader


def loader(source, **changes):
    options = dict(batch_size=2, crop_px=32, flip=True, seed=7) | changes
    return make_loader(source, **options)


def take(iterator, num_batches):
    return [next(iterator) for _ in range(num_batches)]


def assert_equal_batches(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_batches_are_float32_of_the_crop_size():
    batch = next(loader(Tiles(5), batch_size=3))
    shapes = {key: value.shape for key, value in batch.items()}
    assert shapes == {
        "visible": (3, 32, 32, 3),
        "infrared": (3, 32, 32, 1),
        "ensemble_mean": (3, 32, 32, 3),
        "ensemble_variance": (3, 32, 32),
    }
    assert {value.dtype for value in batch.values()} == {np.dtype(np.float32)}


def test_all_arrays_of_a_record_are_cut_from_the_same_place():
    for batch in take(loader(Tiles(5)), 6):
        rows, columns = 255 * batch["visible"][..., 0], 255 * batch["visible"][..., 1]
        np.testing.assert_allclose(256 * batch["infrared"][..., 0], rows, atol=1e-3)
        np.testing.assert_allclose(
            256 * batch["ensemble_mean"][..., 1], columns, atol=1e-3
        )
        np.testing.assert_allclose(
            batch["ensemble_variance"], (columns / 256) ** 2, atol=1e-6
        )


def test_every_epoch_has_each_record_once_in_another_order():
    indices = [i for batch in take(loader(Tiles(6)), 6) for i in tile_indices(batch)]
    first, second = indices[:6], indices[6:]
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second


def test_the_same_record_is_cut_differently_in_every_epoch():
    corners = {tuple(batch["visible"][0, 0, 0]) for batch in take(loader(Tiles(1)), 8)}
    assert len(corners) > 4


def test_about_half_of_the_records_are_mirrored():
    batch = next(loader(Tiles(8), batch_size=64))
    mirrored = batch["visible"][:, 0, 0, 1] > batch["visible"][:, 0, -1, 1]
    assert 16 < mirrored.sum() < 48
    batch = next(loader(Tiles(8), batch_size=64, flip=False))
    assert np.all(batch["visible"][:, 0, 0, 1] < batch["visible"][:, 0, -1, 1])


def test_the_seed_fixes_every_batch():
    assert_equal_batches(take(loader(Tiles(5)), 5), take(loader(Tiles(5)), 5))
    other = take(loader(Tiles(5), seed=8), 5)
    assert any(
        np.any(one["visible"] != two["visible"])
        for one, two in zip(take(loader(Tiles(5)), 5), other, strict=True)
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_position_gives_the_exact_next_batches(num_workers):
    expected = take(loader(Tiles(5)), 7)
    assert_equal_batches(
        take(loader(Tiles(5), num_workers=num_workers), 3), expected[:3]
    )
    later = loader(Tiles(5), start=3, num_workers=num_workers)
    assert_equal_batches(take(later, 4), expected[3:])


@pytest.mark.parametrize("num_tiles", [6, 7])
def test_processes_read_the_batches_that_one_would(num_tiles):
    whole = take(loader(Tiles(num_tiles), batch_size=5), 4)
    shares = [
        take(loader(Tiles(num_tiles), batch_size=5, rows=rows), 4)
        for rows in (range(0, 2), range(2, 4), range(4, 5))
    ]
    for expected, *parts in zip(whole, *shares, strict=True):
        assert_equal_batches(
            [{name: np.concatenate([p[name] for p in parts]) for name in expected}],
            [expected],
        )


def test_an_epoch_has_every_record_once():
    seen = collections.Counter()
    for batch in take(loader(Tiles(6), batch_size=3), 2):
        seen.update(tile_indices(batch))
    assert seen == {index: 1 for index in range(6)}


def test_a_batch_may_be_larger_than_the_data_set():
    counts = collections.Counter(tile_indices(next(loader(Tiles(3), batch_size=6))))
    assert counts == {0: 2, 1: 2, 2: 2}


def test_tiles_with_panel_features_are_neither_cut_nor_mirrored():
    class WithFeatures(Tiles):
        def __getitem__(self, index):
            target = np.arange(2 * 3 * 4, dtype=np.float16).reshape(2, 3, 4)
            return make_tile(index) | {
                "feature_target/vgg16": target,
                # Its square, 2.5e-7, is none of float16's normal numbers.
                "feature_deviation/vgg16": np.full((6, 6), 5e-4, np.float16),
            }

    # A crop larger than the tiles is none of their concern.
    for batch in take(loader(WithFeatures(3), crop_px=64), 4):
        assert batch["visible"].shape == (2, 48, 48, 3)
        np.testing.assert_array_equal(
            np.round(255 * batch["visible"][0, ..., 1]), np.mgrid[:48, :48][1]
        )
        target, variance = (
            batch[f"feature_{kind}/vgg16"] for kind in ("target", "variance")
        )
        assert target.dtype == variance.dtype == np.float32
        np.testing.assert_array_equal(target[1].ravel(), np.arange(24))
        assert variance.shape == (2, 6, 6)
        np.testing.assert_allclose(variance, 2.5e-7, rtol=1e-3)
        assert "feature_deviation/vgg16" not in batch


def test_bad_requests_are_refused_before_training_starts():
    with pytest.raises(FusionProxyError, match="crop_px is 64.* allow 1 to 48"):
        loader(Tiles(5), crop_px=64)
    with pytest.raises(FusionProxyError, match="no training records"):
        loader(Tiles(0))
