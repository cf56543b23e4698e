import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.teachers import ownership
from fusionproxy_jax.teachers.ownership import owned, sweep

# Owns a file, leaves half of it under a temporary name, says so and waits.
OWNER = """
import pathlib, sys, time
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.teachers.ownership import owned
path = pathlib.Path(sys.argv[1])
with owned(path), atomic_path(path) as temporary:
    temporary.write_text("half")
    print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """Another process in the middle of writing `file.txt`."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "file.txt")],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "mine\n"
        yield process
        process.kill()


def _hidden(directory):
    return sorted(path.name for path in directory.iterdir() if path.name[0] == ".")


def test_a_file_has_one_owner_in_one_process_too(tmp_path):
    with owned(tmp_path / "a.txt") as first:
        with owned(tmp_path / "a.json", wait=False) as same_stem:
            assert (first, same_stem) == (True, False)
        with owned(tmp_path / "b.txt", wait=False) as other:
            assert other
    with owned(tmp_path / "a.txt", wait=False) as again:
        assert again
    assert not list(tmp_path.iterdir())


def test_a_living_owner_keeps_its_file_from_others_and_from_the_broom(owner, tmp_path):
    before = _hidden(tmp_path)
    assert len(before) == 2
    with owned(tmp_path / "file.txt", wait=False) as mine:
        assert not mine
    sweep(tmp_path)
    assert _hidden(tmp_path) == before


def test_a_dead_owner_leaves_its_file_to_who_waits(owner, tmp_path):
    start = time.monotonic()
    murder = threading.Timer(0.3, os.kill, (owner.pid, signal.SIGKILL))
    murder.start()
    with owned(tmp_path / "file.txt") as mine:
        assert mine
        assert time.monotonic() - start > 0.2
    murder.join()
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_broom_leaves_what_it_does_not_know(tmp_path):
    names = (".hidden", "file.txt", ".notes.tmp", ".x.lock.txt")
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / ".dotted.name@0,0.00ff.tmp.png").write_text("")
    (tmp_path / ".no-suffix.00ff.tmp").write_text("")
    (tmp_path / ".old.lock").write_text("")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_many_threads_in_turn_lose_no_count(tmp_path):
    path = tmp_path / "count.txt"
    path.write_text("0")

    def count():
        for _ in range(20):
            with owned(path):
                number = int(path.read_text())
                with atomic_path(path) as temporary:
                    temporary.write_text(str(number + 1))

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() == "120"
    assert _hidden(tmp_path) == []


def test_a_disk_without_locks_is_written_but_not_swept(tmp_path, monkeypatch):
    def unsupported(descriptor, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(ownership.fcntl, "flock", unsupported)
    with owned(tmp_path / "a.txt") as first, owned(tmp_path / "a.txt") as second:
        assert first and second
    assert _hidden(tmp_path) == []
    (tmp_path / ".a.00ff.tmp.txt").write_text("")
    sweep(tmp_path)
    assert (tmp_path / ".a.00ff.tmp.txt").exists()


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FusionProxyError, match="could not write .*gone/a.txt"):
        with owned(tmp_path / "gone" / "a.txt"):
            pass
