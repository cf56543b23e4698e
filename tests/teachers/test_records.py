import numpy as np
import pytest

from fusionproxy_jax.teachers.records import DamagedRecordError, decode, encode

TILE = {
    "id": "night/ä 1@0,32",
    "valid_height": 5,
    "valid_width": 7,
    "visible": np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)[:, ::-1],
    "infrared": np.linspace(0, 1, 64, dtype=np.float16).reshape(8, 8),
    "teacher_mean/ddfm": np.ones((8, 8, 3), np.float16),
}


def test_a_tile_survives_its_record():
    result = decode(encode(TILE))
    assert result.keys() == TILE.keys()
    for key, value in TILE.items():
        if isinstance(value, np.ndarray):
            assert result[key].dtype == value.dtype
            np.testing.assert_array_equal(result[key], value)
        else:
            assert result[key] == value


@pytest.mark.parametrize("position", [0, 3, 4, 300, 500, -1])
def test_a_changed_byte_of_length_or_arrays_is_noticed(position):
    record = bytearray(encode(TILE))
    record[position] ^= 0x5A
    with pytest.raises(DamagedRecordError):
        decode(bytes(record))


@pytest.mark.parametrize("length", [0, 3, 20, 300])
def test_a_truncated_record_is_noticed(length):
    with pytest.raises(DamagedRecordError):
        decode(encode(TILE)[:length])
