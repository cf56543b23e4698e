import io
import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save

from fusionproxy_jax.checkpoints.safetensors_index import index_safetensors
from fusionproxy_jax.checkpoints.stored_tensor import RefusedFileError

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
DATA = VALUES.tobytes()


def _file(header, data=DATA):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<Q", len(text)) + text + data)


def _entry(**changes):
    return {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes}


def _refused(file, words):
    with pytest.raises(RefusedFileError, match=words):
        index_safetensors(file)


def test_tensors_and_metadata_of_another_writer():
    arrays = {"b": VALUES, "a": np.arange(5, dtype=np.int8), "empty": VALUES[:0]}
    file = io.BytesIO(save(arrays, metadata={"format": "pt"}))
    index = index_safetensors(file)
    assert sorted(index) == ["a", "b", "empty"]
    for name, expected in arrays.items():
        np.testing.assert_array_equal(index[name].read(file), expected, strict=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2, 4]},
        {"shape": [2]},
        {"dtype": "F16"},
        {"data_offsets": [4, 24]},
        {"data_offsets": [24, 0]},
        {"shape": [10**6, 10**6]},
    ],
)
def test_a_size_that_does_not_fit_the_shape_is_refused_by_name(changes):
    _refused(_file(_entry(**changes)), "size of 'w'")


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [-2, -3]},
        {"shape": [2.0, 3]},
        {"shape": None},
        {"shape": [1] * 50},
        {"data_offsets": [0]},
        {"data_offsets": [-24, 0]},
    ],
)
def test_a_header_without_sense_is_damaged(changes):
    _refused(_file(_entry(**changes)), "header cannot be read")


@pytest.mark.parametrize(
    "header", [b"{", b"[]", b'{"w": 3}', b"\xff\xff", b'{"w": {}}', b'{"a":' * 10**5]
)
def test_a_header_that_is_no_table_is_damaged(header):
    _refused(_file(header), "header cannot be read")


def test_types_that_numpy_cannot_hold_are_refused_by_name():
    _refused(_file(_entry(dtype="F8_E4M3", data_offsets=[0, 6])), "'F8_E4M3' in 'w'")


def test_cut_files_are_truncated():
    _refused(_file(_entry(), DATA[:-1]), "within a tensor")
    whole = _file(_entry()).getvalue()
    _refused(io.BytesIO(whole[:30]), "within its header")
