import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from fusionproxy_jax.checkpoints.safetensors_writer import TensorSpec, write_safetensors


def _arrays():
    generator = np.random.default_rng(0)
    return {
        "a/kernel": generator.random((3, 5), np.float32),
        "a/turned": generator.random((4, 2), np.float32).T,
        "half": generator.random(3).astype(np.float16),
        "brain": generator.random((1, 7)).astype(ml_dtypes.bfloat16),
        "scalar": np.float32(2.5).reshape(()),
        "none": np.zeros((0, 3), np.float32),
        "n\u00e4me": np.arange(3),
    }


def _specs(arrays):
    return [TensorSpec(name, a.dtype, a.shape) for name, a in arrays.items()]


def test_the_safetensors_library_reads_what_was_written(tmp_path):
    arrays, path = _arrays(), tmp_path / "a.safetensors"
    write_safetensors(path, _specs(arrays), iter(arrays.values()), {"by": "test"})
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"by": "test"}
        assert set(file.keys()) == set(arrays)
        for name, expected in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), expected, strict=True)


@pytest.mark.parametrize("name", ["w", "we", "wei", "weig", "weigh", "weight"])
def test_values_begin_on_a_multiple_of_eight_bytes(tmp_path, name):
    path, values = tmp_path / "a.safetensors", np.full(3, 1.25)
    write_safetensors(path, [TensorSpec(name, values.dtype, (3,))], [values], {})
    assert path.read_bytes().index(values.tobytes()) % 8 == 0


def test_no_more_than_one_tensor_is_in_memory(tmp_path):
    spec = TensorSpec("w", np.dtype(np.float32), (250_000,))
    specs = [spec._replace(name=f"w{number}") for number in range(20)]
    tracemalloc.start()
    try:
        tensors = (np.full(spec.shape, n, np.float32) for n in range(20))
        write_safetensors(tmp_path / "a.safetensors", specs, tensors, {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * 1e6


def test_a_tensor_that_is_not_as_stated_is_an_error(tmp_path):
    path, zeros = tmp_path / "a.safetensors", np.zeros((2, 3), np.float32)
    spec = TensorSpec("w", zeros.dtype, zeros.shape)
    for tensors in ([zeros.T], [zeros.astype(np.float64)], [zeros, zeros]):
        with pytest.raises(ValueError, match="is not"):
            write_safetensors(path, [spec], tensors, {})
    with pytest.raises(ValueError, match="no tensor for"):
        write_safetensors(path, [spec], [], {})
