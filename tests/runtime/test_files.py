import errno

import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path


def test_a_finished_block_leaves_the_file_under_its_name_only(tmp_path):
    path = tmp_path / "result.png"
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file_and_names_the_reason(tmp_path):
    path = tmp_path / "result.png"
    path.write_text("old")
    with pytest.raises(FusionProxyError, match="result.png: No space left on device"):
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError])
def test_any_other_end_removes_the_temporary_file_and_passes_on(tmp_path, interruption):
    with pytest.raises(interruption):
        with atomic_path(tmp_path / "result.png") as temporary:
            temporary.write_text("half")
            raise interruption
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(FusionProxyError, match="No such file or directory"):
        with atomic_path(tmp_path / "nowhere" / "result.png") as temporary:
            temporary.write_text("new")
