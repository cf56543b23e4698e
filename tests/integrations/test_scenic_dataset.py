"""Our data under google-research/scenic, or under what it needs of it.

Against the real library where FUSIONPROXY_SCENIC names a checkout of it.
"""

import importlib
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenic_cases import FRACTION, NUM_HELD_OUT, NUM_IMAGES, SIDE, dataset, unsharded

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.integrations.scenic import (
    get_dataset,
    register_dataset,
)


def test_batches_are_as_their_table_says(scenic, cache):
    found = dataset(cache, panel=("fine",))
    train, held_out = next(found.train_iter), next(found.valid_iter)
    assert {key: array.shape for key, array in train.items()} == {
        "inputs": (2, 2, SIDE, SIDE, 4),
        "batch_mask": (2, 2),
        "ensemble_mean": (2, 2, SIDE, SIDE, 3),
        "ensemble_variance": (2, 2, SIDE, SIDE),
        "feature_target/fine": (2, 2, 8, 8, 3),
        "feature_variance/fine": (2, 2, 8, 8),
    }
    assert all(array.dtype == np.float32 for array in train.values())
    assert np.all(train["batch_mask"] == 1)
    assert train.keys() == held_out.keys()
    np.testing.assert_array_equal(held_out["batch_mask"], [[1, 1, 1], [1, 1, 0]])
    assert not np.any(held_out["inputs"][1, 2:])
    assert found.meta_data["input_shape"] == (-1, SIDE, SIDE, 4)
    assert found.meta_data["num_train_examples"] == NUM_IMAGES - NUM_HELD_OUT
    assert found.test_iter is None


def _seen(batches):
    """Which tiles whole batches show: visible and infrared bytes of each."""
    return [
        image.tobytes()
        for batch in map(unsharded, batches)
        for image, mask in zip(
            np.asarray(batch["inputs"]), np.asarray(batch["batch_mask"]), strict=True
        )
        if mask
    ]


def test_a_pass_shows_every_held_out_tile_once_and_none_that_trains(scenic, cache):
    found = dataset(cache, eval_batch_size=3, num_shards=1, flip=False)
    once, again = (_seen(islice(found.valid_iter, 2)) for _ in range(2))
    assert len(once) == len(set(once)) == NUM_HELD_OUT
    assert once == again
    trained = set(_seen(islice(found.train_iter, 5)))
    assert len(trained) == NUM_IMAGES - NUM_HELD_OUT
    assert not trained & set(once)


def test_crops_of_a_pass_are_those_of_the_next(scenic, cache):
    found = dataset(cache, eval_batch_size=2, num_shards=1, crop_px=16)
    once, again = (_seen(islice(found.valid_iter, 3)) for _ in range(2))
    assert once == again
    assert next(found.train_iter)["inputs"].shape == (1, 4, 16, 16, 4)


@pytest.mark.parametrize(
    ("num_processes", "fraction", "num_held_out"),
    [(2, FRACTION, NUM_HELD_OUT), (4, FRACTION, NUM_HELD_OUT), (3, 0.1, 1)],
)
def test_processes_take_equally_many_batches_and_share_the_tiles(
    num_processes, fraction, num_held_out, scenic, cache, monkeypatch
):
    monkeypatch.setattr(jax, "process_count", lambda: num_processes)
    shown = []
    for process in range(num_processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        found = dataset(
            cache,
            batch_size=1,
            eval_batch_size=1,
            num_shards=1,
            validation_fraction=fraction,
        )
        steps = -(-num_held_out // num_processes)
        first, second = (_seen(islice(found.valid_iter, steps)) for _ in range(2))
        assert first == second
        shown += first
        assert len(_seen(islice(found.train_iter, 3))) == 3
    assert len(shown) == len(set(shown)) == num_held_out


def test_a_second_cache_may_be_the_evaluation(scenic, cache):
    found = dataset(cache, eval_cache=str(cache.directory))
    assert found.meta_data["num_train_examples"] == NUM_IMAGES
    assert found.meta_data["num_eval_examples"] == NUM_IMAGES


def test_inputs_have_the_dtype_of_the_data_and_targets_float32(scenic, cache):
    found = get_dataset(
        batch_size=2,
        eval_batch_size=2,
        num_shards=1,
        dtype_str="bfloat16",
        dataset_configs={"cache": cache.directory, "validation_fraction": FRACTION},
    )
    batch = next(found.valid_iter)
    assert batch["inputs"].dtype == found.meta_data["input_dtype"] == jnp.bfloat16
    assert batch["ensemble_mean"].dtype == np.float32


def test_order_follows_the_seed_or_else_the_key(scenic, cache):
    def first(**options):
        found = get_dataset(
            batch_size=4,
            eval_batch_size=4,
            num_shards=1,
            dataset_configs={"cache": cache.directory, "validation_fraction": FRACTION},
            **options,
        )
        return _seen(islice(found.train_iter, 4))

    keys = [jax.random.key(number) for number in (0, 1)]
    assert first(shuffle_seed=1, rng=keys[0]) == first(shuffle_seed=1, rng=keys[1])
    assert first(shuffle_seed=1) != first(shuffle_seed=2)
    by_key = [first(shuffle_seed=None, rng=key) for key in keys]
    assert by_key[0] != by_key[1]


def test_registering_twice_changes_nothing(scenic):
    register_dataset("fusion_twice")
    datasets = importlib.import_module("scenic.dataset_lib.datasets")
    builder = datasets.get_dataset("fusion_twice")
    register_dataset("fusion_twice")
    assert datasets.get_dataset("fusion_twice") is builder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cache": None}, "names no cache; it takes cache, eval_cache"),
        ({"crop": 16}, "has crop; it takes cache"),
        ({"batch_size": 3}, "^batch_size is 3 .* multiple of its 2 devices"),
        ({"eval_batch_size": 5}, "^eval_batch_size is 5"),
        ({"validation_fraction": 0.0}, "is 0.0, which leaves none of the 9 images"),
        ({"panel": ("vgg16",)}, "has no features of 'vgg16'"),
        ({"crop_px": 48}, "crop_px is 48"),
    ],
)
def test_bad_data_settings_are_one_sentence(changes, words, scenic, cache):
    with pytest.raises(FusionProxyError, match=words):
        next(dataset(cache, **changes).train_iter)


def test_a_data_service_is_refused(scenic):
    with pytest.raises(FusionProxyError, match="'grpc://here'; every process reads"):
        get_dataset(
            batch_size=1,
            eval_batch_size=1,
            num_shards=1,
            dataset_configs={"cache": "cache"},
            dataset_service_address="grpc://here",
        )
