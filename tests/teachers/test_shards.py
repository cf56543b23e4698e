import os
import pickle

import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers import shards
from fusionproxy_jax.teachers.records import encode
from fusionproxy_jax.teachers.shards import RecordReaders, write_records


@pytest.fixture
def paths(tmp_path):
    paths = [tmp_path / f"{number}.array_record" for number in range(9)]
    for number, path in enumerate(paths):
        write_records(path, [encode({"id": f"{number}.{place}"}) for place in (0, 1)])
    return paths


def test_few_of_many_files_are_open_at_once(paths, monkeypatch):
    monkeypatch.setattr(shards, "_MAX_OPEN", 4)
    readers = RecordReaders()
    before = len(os.listdir("/dev/fd"))
    for _ in range(2):
        for number, path in enumerate(paths):
            assert readers.read(path, 1) == {"id": f"{number}.1"}
    assert len(os.listdir("/dev/fd")) == before + 4


def test_readers_go_to_other_processes_without_their_files(paths):
    readers = RecordReaders()
    assert readers.read(paths[0], 0) == {"id": "0.0"}
    assert pickle.loads(pickle.dumps(readers)).read(paths[1], 0) == {"id": "1.0"}


def test_a_file_that_is_gone_or_too_short_is_named(paths):
    paths[0].unlink()
    for path, position in ((paths[0], 0), (paths[1], 2)):
        with pytest.raises(FusionProxyError, match=f"{path.name} is damaged; delete"):
            RecordReaders().read(path, position)
