import os
import subprocess
import sys
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import torch
from checkpoints.torch_writers import (
    FORMS,
    STORAGE_NAMES,
    Name,
    Storage,
    Tensor,
    legacy_file,
    whole,
    zip_file,
)
from safetensors.torch import save_file

from fusionproxy_jax.checkpoints.checkpoint_file import (
    open_checkpoint,
    open_safetensors,
    open_torch_file,
)
from fusionproxy_jax.errors import FusionProxyError

each_form = pytest.mark.parametrize("form", FORMS)


def _written(tmp_path, data, name="a.pt"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def _refusal(path, opener=open_checkpoint):
    """The one sentence with which a file is refused, its path taken off."""
    with pytest.raises(FusionProxyError) as caught:
        opener(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message.replace(str(path), "")


def _values(dtype, shape=(3, 4)):
    generator = np.random.default_rng(0)
    if dtype == "bool":
        return generator.random(shape) < 0.5
    if np.issubdtype(np.dtype(dtype), np.integer):
        return generator.integers(0, 100, shape).astype(dtype)
    return (generator.standard_normal(shape) * 1e3).astype(dtype)


def _torch_tensors():
    """One of everything that a state dict may hold."""
    torch.manual_seed(0)
    base = torch.randn(6, 5)
    tensors = {
        name: (torch.randn(3, 4) * 100).to(getattr(torch, name))
        for name in STORAGE_NAMES
    }
    return tensors | {
        "parameter": torch.nn.Parameter(torch.randn(2, 3)),
        "transposed": base.T,
        "part": base[1:4, ::2],
        "shared": base,
        "channels_last": torch.randn(1, 3, 4, 5).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "one_axis": torch.arange(4.0)[1:],
    }


def _assert_reads_as_torch(source, tensors):
    assert source.keys() == list(tensors)
    for name, tensor in tensors.items():
        wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        expected = wide.detach().numpy()
        assert source.shape(name) == expected.shape
        assert source.dtype(name) == expected.dtype
        read = source.read(name)
        assert read.dtype == expected.dtype
        assert read.flags.c_contiguous and read.flags.writeable
        np.testing.assert_array_equal(read, expected, strict=True)


@pytest.mark.parametrize("pickle_protocol", [2, 4])
@pytest.mark.parametrize("new", [True, False])
def test_files_of_torch_read_as_torch_reads_them(tmp_path, new, pickle_protocol):
    path = tmp_path / "weights.bin"
    torch.save(
        _torch_tensors(),
        path,
        pickle_protocol=pickle_protocol,
        _use_new_zipfile_serialization=new,
    )
    with open_torch_file(path) as source:
        # Torch's own restricted reader does not take protocol 4.
        _assert_reads_as_torch(source, torch.load(path, weights_only=False))


@pytest.mark.parametrize("new", [True, False])
def test_a_module_with_buffers_reads_as_its_state_dict(tmp_path, new):
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    module.register_buffer("table", torch.arange(6.0).reshape(2, 3))
    path = tmp_path / "a.pth"
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=new)
    with open_checkpoint(path) as source:
        _assert_reads_as_torch(source, module.state_dict())


def test_safetensors_read_as_torch_wrote_them(tmp_path):
    tensors = {
        name: tensor.detach().clone().contiguous()
        for name, tensor in sorted(_torch_tensors().items())
    }
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    with open_safetensors(path) as source:
        ordered = {name: tensors[name] for name in source.keys()}
        assert sorted(source.keys()) == list(tensors)
        _assert_reads_as_torch(source, ordered)


@each_form
@pytest.mark.parametrize("dtype", STORAGE_NAMES)
def test_every_type_reads_exactly_without_torch(tmp_path, form, dtype):
    values = _values(dtype)
    path = _written(tmp_path, FORMS[form]({"w": whole(values)}))
    with open_checkpoint(path) as source:
        expected = values.astype(np.float32) if dtype == "bfloat16" else values
        np.testing.assert_array_equal(source.read("w"), expected, strict=True)


@each_form
def test_torch_reads_the_files_of_this_test_alike(tmp_path, form):
    storage = Storage("7", np.arange(12, dtype=np.float32))
    content = {
        "plain": whole(_values("bfloat16"), "0"),
        "view": Tensor(storage, (2, 3), (1, 4), offset=1),
        "parameter": Tensor(storage, (12,), parameter=True),
    }
    path = _written(tmp_path, FORMS[form](content))
    with open_checkpoint(path) as source:
        _assert_reads_as_torch(source, torch.load(path, weights_only=True))


@each_form
def test_strides_offsets_and_shared_storages_are_honoured(tmp_path, form):
    flat = np.arange(24, dtype=np.float32)
    storage = Storage("0", flat)
    views = {
        "rows": Tensor(storage, (4, 6)),
        "columns": Tensor(storage, (6, 4), (1, 6)),
        "corner": Tensor(storage, (2, 2), (6, 2), offset=7),
        "one": Tensor(storage, (), (), offset=23),
        "repeated": Tensor(storage, (3, 2), (0, 1), offset=4),
    }
    path = _written(tmp_path, FORMS[form](views))
    with open_checkpoint(path) as source:
        rows = flat.reshape(4, 6)
        np.testing.assert_array_equal(source.read("rows"), rows)
        np.testing.assert_array_equal(source.read("columns"), rows.T)
        np.testing.assert_array_equal(source.read("corner"), rows[1:3, 1:5:2])
        np.testing.assert_array_equal(source.read("one"), 23)
        np.testing.assert_array_equal(source.read("repeated"), [[4, 5]] * 3)


@each_form
def test_reading_one_small_tensor_leaves_the_large_one_on_disk(tmp_path, form):
    large = np.zeros(4_000_000, np.float32)
    content = {"large": whole(large, "0"), "small": whole(np.ones(5, np.float32), "1")}
    path = _written(tmp_path, FORMS[form](content))
    tracemalloc.start()
    try:
        with open_checkpoint(path) as source:
            source.read("small")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < large.nbytes / 20


@each_form
def test_the_bytes_of_other_tensors_are_never_read(tmp_path, form):
    others = np.full(1000, 7.0, np.float32)
    data = bytearray(
        FORMS[form]({"a": whole(others, "0"), "b": whole(np.ones(5, np.float32), "1")})
    )
    place = data.find(others.tobytes())
    data[place : place + others.nbytes] = b"\xff" * others.nbytes
    path = _written(tmp_path, bytes(data))
    with open_checkpoint(path) as source:
        np.testing.assert_array_equal(source.read("b"), np.ones(5))


@each_form
def test_a_nested_state_dict_is_found_beside_settings(tmp_path, form):
    content = {
        "epoch": 3,
        "rate": 1e-4,
        "dtype": Name("torch", "float16"),
        "state_dict": {"a.weight": whole(np.ones(2, np.float32))},
    }
    path = _written(tmp_path, FORMS[form](content))
    with open_torch_file(path) as source:
        assert source.keys() == ["a.weight"]


def test_the_suffix_does_not_matter(tmp_path):
    content = {"w": whole(np.ones(2, np.float32))}
    for data in (zip_file(content), legacy_file(content)):
        with open_checkpoint(_written(tmp_path, data, "w.safetensors")) as source:
            assert source.keys() == ["w"]
    save_file({"w": torch.ones(2)}, tmp_path / "w.pt")
    with open_checkpoint(tmp_path / "w.pt") as source:
        assert source.keys() == ["w"]


def test_each_opener_refuses_the_other_kind_by_name(tmp_path):
    torch_path = _written(tmp_path, zip_file({"w": whole(np.ones(2, np.float32))}))
    save_file({"w": torch.ones(2)}, tmp_path / "b.safetensors")
    assert "is a torch zip file" in _refusal(torch_path, open_safetensors)
    message = _refusal(tmp_path / "b.safetensors", open_torch_file)
    assert "is a safetensors file" in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"<!DOCTYPE html><html>Too many users have viewed</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"weights: none\n" * 20, "is no checkpoint"),
        (bytes(200), "is no checkpoint"),
        (b"\x80\x04\x95\x03\0\0\0\0\0\0\0}\x94.", "not one that torch.save wrote"),
    ],
)
def test_foreign_files_are_refused_by_what_they_are(tmp_path, data, words):
    assert words in _refusal(_written(tmp_path, data))


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path):
    assert "there is no checkpoint file" in _refusal(tmp_path / "none.pt")
    assert "there is no checkpoint file" in _refusal(tmp_path)


@each_form
def test_a_file_cut_anywhere_is_refused(tmp_path, form):
    content = {"a": whole(_values("float32"), "0"), "b": whole(_values("int64"), "1")}
    data = FORMS[form](content)
    for length in [0, 1, 3, 12, 20, 40, *range(60, len(data), 41), len(data) - 1]:
        _refusal(_written(tmp_path, data[:length]))


@each_form
def test_a_damaged_byte_is_refused_or_harms_nothing_but_values(tmp_path, form):
    generator = np.random.default_rng(0)
    data = FORMS[form](
        {"a": whole(_values("float32")), "b": whole(_values("int8"), "1")}
    )
    for place in generator.integers(0, len(data), 300):
        damaged = bytearray(data)
        damaged[place] ^= 1 << generator.integers(8)
        path = _written(tmp_path, bytes(damaged))
        try:
            with open_checkpoint(path) as source:
                for name in source.keys():
                    assert source.read(name).shape == source.shape(name)
        except FusionProxyError as error:
            assert "\n" not in str(error)


def test_a_file_that_shrinks_while_open_is_one_sentence(tmp_path):
    path = _written(tmp_path, legacy_file({"w": whole(np.ones(4000, np.float32))}))
    with open_checkpoint(path) as source:
        os.truncate(path, 1000)
        with pytest.raises(FusionProxyError, match="ends within a tensor"):
            source.read("w")


def test_values_read_outlive_the_file(tmp_path):
    path = _written(tmp_path, zip_file({"w": whole(np.ones(4, np.float32))}))
    with open_checkpoint(path) as source:
        values = source.read("w")
    path.unlink()
    np.testing.assert_array_equal(values, np.ones(4))


def test_reading_torch_files_loads_no_torch(tmp_path):
    path = _written(tmp_path, zip_file({"w": whole(_values("bfloat16"))}))
    code = (
        "from fusionproxy_jax.checkpoints.checkpoint_file import open_checkpoint; "
        f"print(open_checkpoint({str(path)!r}).read('w').sum()); "
        "import sys; print([m for m in ('torch', 'jax') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1] == "[]"


def test_bfloat16_widens_exactly_for_every_bit_pattern(tmp_path):
    bits = np.arange(2**16, dtype=np.uint16)
    values = bits.view(ml_dtypes.bfloat16)
    path = _written(tmp_path, zip_file({"w": whole(values)}))
    with open_checkpoint(path) as source:
        read = source.read("w").view(np.uint32)
    np.testing.assert_array_equal(read, bits.astype(np.uint32) << 16)
