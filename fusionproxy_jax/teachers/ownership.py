"""One writer at a time per file: locks that the kernel frees when their holder dies.

Beside STEM.SUFFIX lies .STEM.lock while somebody writes it. Whoever holds that lock is
the only writer, so temporary files of `runtime.files.atomic_path` found under it were
left by the dead. Where there are no such locks (Windows, some network disks) writers go
on without: files still appear whole, but work may be done twice and nothing is swept.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusionproxy_jax.errors import FusionProxyError

if sys.platform != "win32":
    import fcntl

# Names given by `atomic_path` and by `_lock_of`.
_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.[0-9a-f]+\.tmp(\.[^.]*)?$")
_LOCK = re.compile(r"\.(?P<stem>.+)\.lock$")


class _NoLocksError(Exception):
    """The system or the disk knows no locks."""


@contextmanager
def owned(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Keeps others from writing `path`; yields whether this process may.

    Args:
      path: the file to write, in a folder that exists.
      wait: until its owner is done or dead; False yields False if there is one.

    Raises:
      FusionProxyError: the folder cannot be written.
    """
    lock = _lock_of(path.parent, path.stem)
    try:
        descriptor = _acquire(lock, wait=wait)
    except _NoLocksError:
        yield True
        return
    except OSError as error:
        raise FusionProxyError(
            f"could not write {path}: {error.strerror or error}"
        ) from error
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        _release(lock, descriptor)


def sweep(directory: Path) -> None:
    """Removes temporary files and locks whose writers are gone."""
    leftovers: dict[str, list[Path]] = {}
    for path in directory.glob(".*"):
        if found := _TEMPORARY.match(path.name):
            leftovers.setdefault(found["stem"], []).append(path)
        elif found := _LOCK.match(path.name):
            leftovers.setdefault(found["stem"], [])
    for stem, temporaries in leftovers.items():
        lock = _lock_of(directory, stem)
        try:
            descriptor = _acquire(lock, wait=False)
        except (_NoLocksError, OSError):
            return
        if descriptor is not None:
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)
            _release(lock, descriptor)


def _lock_of(directory: Path, stem: str) -> Path:
    return directory / f".{stem}.lock"


def _acquire(lock: Path, *, wait: bool) -> int | None:
    """Returns the descriptor that holds `lock`, or None if another process does."""
    if sys.platform == "win32":
        raise _NoLocksError
    operation = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        held = False
        try:
            fcntl.flock(descriptor, operation)
            # The former owner may have removed the file before we got its lock.
            held = os.path.samestat(os.fstat(descriptor), os.stat(lock))
        except BlockingIOError:
            return None
        except FileNotFoundError:
            pass
        except OSError as error:
            lock.unlink(missing_ok=True)
            raise _NoLocksError from error
        finally:
            if not held:
                os.close(descriptor)
        if held:
            return descriptor


def _release(lock: Path, descriptor: int) -> None:
    """Removes the file while nobody else can hold its lock, then lets go."""
    try:
        lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
