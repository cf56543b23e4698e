import io

import numpy as np
import pytest
from checkpoints.torch_writers import Storage, Tensor, legacy_file, pickled, whole

from fusionproxy_jax.checkpoints.stored_tensor import RefusedFileError
from fusionproxy_jax.checkpoints.torch_legacy import index_legacy

FIRST, SECOND = np.arange(5, dtype=np.float64), np.arange(7, dtype=np.int16)


def _content():
    return {"b": whole(SECOND, "20"), "a": whole(FIRST, "3")}


def _refused(data, words):
    with pytest.raises(RefusedFileError, match=words):
        index_legacy(io.BytesIO(data))


def test_storages_follow_in_the_order_of_their_keys_not_of_the_tensors():
    file = io.BytesIO(legacy_file(_content()))
    index = index_legacy(file)
    assert list(index) == ["b", "a"]
    assert index["b"].start < index["a"].start
    np.testing.assert_array_equal(index["a"].read(file), FIRST)
    np.testing.assert_array_equal(index["b"].read(file), SECOND)


def test_storages_of_settings_are_passed_over():
    # An optimiser's tensors, under numbers, lie between those of the network.
    content = {"model": _content(), "state": {0: whole(np.zeros(9, np.float32), "25")}}
    file = io.BytesIO(legacy_file(content))
    np.testing.assert_array_equal(index_legacy(file)["a"].read(file), FIRST)


def test_big_endian_files_are_refused():
    _refused(legacy_file(_content(), little_endian=False), "big-endian")


def test_another_protocol_is_refused():
    _refused(legacy_file(_content(), protocol=1002), "not of protocol 1001")


@pytest.mark.parametrize("lost", [1, 40, 47, 48, 49, 60])
def test_a_file_cut_within_its_storages_is_truncated(lost):
    _refused(legacy_file(_content())[:-lost], "truncated")


@pytest.mark.parametrize("count", [6, 8, 0, -1, 2**62])
def test_a_storage_of_another_size_than_its_tensors_say_is_refused(count):
    _refused(legacy_file(_content(), counts={"20": count}), "another size")


def test_a_storage_claimed_larger_than_the_file_is_refused():
    storage = Storage("3", FIRST, claims=10**9)
    content = {"a": Tensor(storage, (10**9,), (1,))}
    _refused(legacy_file(content), "truncated")


@pytest.mark.parametrize("keys", [["20"], ["20", "3", "4"], ["3", "3"], 5, [20, 3]])
def test_keys_that_are_not_the_tensors_storages_are_refused(keys):
    data, right = legacy_file(_content()), pickled(["20", "3"])
    assert data.count(right) == 1
    _refused(data.replace(right, pickled(keys)), "not those of its tensors")
