import numpy as np
import pytest

from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.samples import (
    encode_samples,
    read_samples,
    remove_samples,
    samples_path,
)
from fusionproxy_jax.teachers.shards import write_records


@pytest.fixture
def samples():
    """Of 3 tiles, 2 teachers and 4 draws; some beyond [0, 1]."""
    rng = np.random.default_rng(0)
    return rng.uniform(-0.2, 1.2, (3, 2, 4, 6, 6, 3)).astype(np.float32)


def test_samples_come_back_as_what_eight_bits_hold_teacher_by_teacher(
    samples, tmp_path
):
    path = samples_path(tmp_path, 7)
    write_records(path, [encode_samples(f"a/{k}", s) for k, s in enumerate(samples)])
    found = read_samples(path, [2, 0])
    for number, one in zip([2, 0], found, strict=True):
        assert one.dtype == np.uint8
        expected = np.clip(samples[number].reshape(8, 6, 6, 3), 0, 1)
        np.testing.assert_allclose(one / 255, expected, atol=0.5 / 255 + 1e-6)


def test_samples_are_removed_but_not_those_somebody_reads(samples, tmp_path):
    shard = tmp_path / "shard-00000.array_record"
    paths = [samples_path(tmp_path, number) for number in (0, 1)]
    for path in (shard, *paths):
        path.write_bytes(b"")
    with owned(paths[1]):
        remove_samples(tmp_path)
    assert [path.exists() for path in (shard, *paths)] == [True, False, True]
    remove_samples(tmp_path)
    assert list(tmp_path.iterdir()) == [shard]
