import io
import struct
import zipfile

import numpy as np
import pytest
import torch
from checkpoints.torch_writers import Storage, Tensor, whole, zip_file
from torch.serialization import set_crc32_options

from fusionproxy_jax.checkpoints.stored_tensor import RefusedFileError
from fusionproxy_jax.checkpoints.torch_zip import index_zip

VALUES = np.arange(40, dtype=np.float32)


def _content():
    return {"w": whole(VALUES)}


def _refused(data, words):
    with pytest.raises(RefusedFileError, match=words):
        index_zip(io.BytesIO(data))


def _entries(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(entries, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_the_root_folder_may_have_any_name():
    file = io.BytesIO(zip_file(_content(), root="256x256_diffusion"))
    np.testing.assert_array_equal(index_zip(file)["w"].read(file), VALUES)


def test_files_without_a_byte_order_are_little_endian():
    file = io.BytesIO(zip_file(_content(), byteorder=None))
    np.testing.assert_array_equal(index_zip(file)["w"].read(file), VALUES)


def test_big_endian_files_are_refused():
    _refused(zip_file(_content(), byteorder=b"big"), "big-endian")


def test_other_zip_files_are_refused():
    _refused(_zipped({"a.txt": b"hello", "deep/er/data.pkl": b""}), "not of torch")
    _refused(_zipped({"a/data.pkl": b"", "b/data.pkl": b""}), "not of torch")


@pytest.mark.parametrize("entry", ["constants.pkl", "code/__torch__.py"])
def test_torchscript_programs_are_refused(entry):
    _refused(zip_file(_content(), **{entry: b""}), "TorchScript")


def test_a_program_that_torch_itself_scripted_is_refused(tmp_path):
    with pytest.warns(DeprecationWarning):
        program = torch.jit.script(torch.nn.Linear(2, 3))
        torch.jit.save(program, tmp_path / "a.pt")
    _refused((tmp_path / "a.pt").read_bytes(), "TorchScript")


def test_a_file_without_its_table_of_contents_is_truncated():
    data = zip_file(_content())
    _refused(data[: data.rindex(b"PK\1\2")], "truncated")


def test_a_missing_storage_is_named():
    entries = _entries(zip_file(_content()))
    del entries["archive/data/0"]
    _refused(_zipped(entries), "'data/0' is missing")


@pytest.mark.parametrize("size", [0, 156, 164])
def test_a_storage_of_another_size_than_its_tensors_say_is_refused(size):
    _refused(zip_file(_content(), **{"data/0": bytes(size)}), f"has {size} bytes")


def test_compressed_files_are_refused():
    _refused(_zipped(_entries(zip_file(_content())), zipfile.ZIP_DEFLATED), "again")


def test_a_table_of_contents_that_points_elsewhere_is_refused():
    data = bytearray(zip_file(_content()))
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"data/0"))
    (place,) = struct.unpack_from("<I", data, entry + 42)
    struct.pack_into("<I", data, entry + 42, place + 1)
    _refused(bytes(data), "'data/0' is not where")


def test_a_storage_said_to_reach_beyond_the_file_is_refused():
    tensor = Tensor(Storage("0", VALUES, claims=10**6), (10**6,), (1,))
    data = bytearray(zip_file({"w": tensor}))
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"data/0"))
    struct.pack_into("<II", data, entry + 20, 4 * 10**6, 4 * 10**6)
    _refused(bytes(data), "'data/0' is not where")


def test_damaged_values_are_found_by_their_checksum():
    data = bytearray(zip_file(_content()))
    data[data.find(VALUES.tobytes()) + 5] ^= 1
    file = io.BytesIO(data)
    with pytest.raises(RefusedFileError, match="checksum"):
        index_zip(file)["w"].read(file)


def test_a_damaged_description_is_found_by_its_checksum():
    data = bytearray(zip_file(_content()))
    # The name of the tensor: a pickle all the same.
    data[data.find(b"X\x01\0\0\0w") + 5] ^= 1
    _refused(bytes(data), "checksum")


def test_parts_of_a_storage_are_read_without_the_rest():
    storage = Storage("0", VALUES)
    data = bytearray(zip_file({"w": Tensor(storage, (2, 2), (10, 1), offset=3)}))
    place = data.find(VALUES.tobytes())
    data[place : place + 12] = b"\xff" * 12
    file = io.BytesIO(data)
    np.testing.assert_array_equal(index_zip(file)["w"].read(file), [[3, 4], [13, 14]])


def test_files_that_torch_wrote_without_checksums_are_read(tmp_path):
    set_crc32_options(False)
    try:
        torch.save({"w": torch.from_numpy(VALUES)}, tmp_path / "a.pt")
    finally:
        set_crc32_options(True)
    with (tmp_path / "a.pt").open("rb") as file:
        np.testing.assert_array_equal(index_zip(file)["w"].read(file), VALUES)


def test_absurdly_long_entries_are_not_read():
    _refused(zip_file(_content(), byteorder=b"little" * 10), "absurdly long")
