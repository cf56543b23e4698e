"""Files that appear whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusionproxy_jax.errors import FusionProxyError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a hidden name beside `path` that becomes `path` when the block succeeds.

    The temporary file has the suffix of `path`, so that writers which go by suffix
    work. An existing file at `path` is replaced only at the end; whatever ends the
    block early, the temporary file is removed.

    Raises:
      FusionProxyError: the block or the renaming met an `OSError` (a full disk, a
        missing folder, no permission).
    """
    path = Path(path)
    token = secrets.token_hex(4)
    temporary = path.with_name(f".{path.stem}.{token}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FusionProxyError(f"could not write {path}: {reason}") from error
    finally:
        # Renamed away on success; a folder that cannot be written holds no file either.
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass
