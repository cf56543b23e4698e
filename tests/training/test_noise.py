import numpy as np
from strided_backbones import tiny_backbone
from tiny_training import tiny_config

from fusionproxy_jax.config import DataConfig, PanelConfig, TeacherConfig
from fusionproxy_jax.input_pipeline.loader import make_loader
from fusionproxy_jax.input_pipeline.schema import check_tile
from fusionproxy_jax.training.noise import (
    noise_batches,
    random_batch,
    write_noise_cache,
)
from fusionproxy_jax.training.panel_features import unscaled_panel_features

CONFIG = tiny_config(
    teacher=TeacherConfig(tile_px=64),
    data=DataConfig(batch_size=2, crop_px=48),
    panel=PanelConfig(grid=8),
)


def drawn_batch(cache):
    loader = make_loader(cache, batch_size=2, crop_px=48, flip=True, seed=0)
    try:
        return next(loader)
    finally:
        loader.close()


def like(batch):
    return {name: (array.shape, array.dtype) for name, array in batch.items()}


def test_a_cache_of_noise_is_read_like_a_real_one(tmp_path):
    cache = write_noise_cache(tmp_path, CONFIG, num_tiles=18)
    assert len(cache) == 18
    for index in (0, 17):
        check_tile(cache[index])
        assert cache[index]["visible"].shape == (64, 64, 3)
    batch = drawn_batch(cache)
    assert like(batch) == like(random_batch(np.random.default_rng(0), CONFIG))
    for array in batch.values():
        assert 0 <= array.min() < 0.1 and 0.9 < array.max() <= 1


def test_a_panel_has_its_features_in_the_cache_and_whole_tiles(tmp_path):
    panel = unscaled_panel_features(
        [tiny_backbone("fine"), tiny_backbone("coarse", stride=8, channels=5)],
        side_px=48,
    )
    cache = write_noise_cache(tmp_path, CONFIG, panel, num_tiles=3)
    check_tile(cache[2])
    assert cache[2]["visible"].shape == (48, 48, 3)
    batch = drawn_batch(cache)
    assert batch["feature_target/coarse"].shape == (2, 6, 6, 5)
    assert batch["feature_variance/fine"].shape == (2, 8, 8)
    expected = random_batch(np.random.default_rng(0), CONFIG, panel)
    assert like(batch) == like(expected)


def test_batches_of_noise_never_end_and_leave_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    expected = like(random_batch(np.random.default_rng(0), CONFIG))
    with noise_batches(CONFIG) as batches:
        # More records than the cache has tiles.
        for _ in range(20):
            assert like(next(batches)) == expected
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
