"""The split is the same everywhere and never divides a clip."""

import hashlib

import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.split import split_pairs


def images(dataset, count):
    return [(f"{dataset}/{i}", f"{dataset}/{i}") for i in range(count)]


def test_the_split_is_the_documented_one():
    pairs = images("roadscene", 20)
    train, validation = split_pairs(pairs, 0.1)
    digests = [hashlib.sha256(group.encode()).hexdigest() for _, group in pairs]
    expected = sorted(range(20), key=lambda i: digests[i])[:2]
    assert validation == sorted(expected)
    assert train == [i for i in range(20) if i not in expected]


def test_a_clip_is_never_divided():
    pairs = [(f"m3svd/{c}/{f}", f"m3svd/{c}") for c in range(5) for f in range(8)]
    train, validation = split_pairs(pairs, 0.2)
    groups = [{pairs[i][1] for i in part} for part in (train, validation)]
    assert not groups[0] & groups[1]
    assert len(validation) == 8


def test_order_and_other_data_sets_do_not_matter():
    pairs = images("msrs", 30)
    chosen = {pairs[i] for i in split_pairs(pairs, 0.2)[1]}
    mixed = images("m3fd", 7) + pairs[::-1]
    again = {mixed[i] for i in split_pairs(mixed, 0.2)[1] if "msrs" in mixed[i][0]}
    assert again == chosen


def test_every_data_set_has_at_least_one_validation_group():
    pairs = images("msrs", 4) + images("m3fd", 2)
    _, validation = split_pairs(pairs, 0.01)
    assert sorted(pairs[i][0].split("/")[0] for i in validation) == ["m3fd", "msrs"]


def test_a_data_set_of_one_group_trains():
    assert split_pairs([("clip/0", "clip"), ("clip/1", "clip")], 0.1) == ([0, 1], [])


def test_a_fraction_of_zero_leaves_nothing_for_validation():
    assert split_pairs(images("msrs", 3), 0) == ([0, 1, 2], [])


def test_a_fraction_that_leaves_no_training_data_is_refused():
    with pytest.raises(FusionProxyError, match=r"1.0; it must be in \[0, 1\)"):
        split_pairs(images("msrs", 3), 1.0)
