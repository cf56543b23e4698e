"""Cache builds in processes of their own, to be killed: a server that forks them.

The server has imported everything but not started JAX, so a build starts in a fraction
of a second. As a script it reads one JSON object a line, the arguments of `_build` or
{"wait": pid}, and answers with a pid or an exit code.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def make_pair(index, height=40, width=70):
    rng = np.random.default_rng(index)
    name = f"{'made_up' if index % 3 else 'other'}/{index}"
    return {
        "id": name,
        "group": name,
        "visible": rng.integers(0, 256, (height, width, 3), np.uint8),
        "infrared": rng.random((height, width), np.float32),
    }


def cache_files(directory):
    """Returns every file below a folder, by its name there."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


class BuildServer:
    """Starts, kills and awaits builds."""

    def __init__(self, compiled):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "JAX_COMPILATION_CACHE_DIR": str(compiled),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            },
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(
        self,
        directory,
        index=0,
        count=1,
        teachers=("gaussian", "average"),
        panel=False,
    ):
        """Starts a build of process `index` of `count`, with a panel of two or none."""
        ticks = directory.parent / f"{directory.name}.{time.monotonic_ns()}.ticks"
        ticks.touch()
        pid = self._ask(
            directory=str(directory),
            index=index,
            count=count,
            teachers=list(teachers),
            panel=panel,
            ticks=str(ticks),
        )
        return Build(self, pid, ticks)

    def wait(self, pid):
        return self._ask(wait=pid)

    def _ask(self, **request):
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


class Build:
    """A running build; it ticks at every call of `progress`, and once it is over."""

    def __init__(self, server, pid, ticks):
        self._server, self._pid, self._ticks = server, pid, ticks

    def wait(self):
        """Returns the exit code, negative for a signal."""
        return self._server.wait(self._pid)

    def kill_after(self, num_ticks, seconds=0.0):
        """Kills it at that tick, if it lives so long; returns its exit code."""
        while self._ticks.stat().st_size < num_ticks and self._alive():
            time.sleep(0.001)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        return self.wait()

    def _alive(self):
        return not self._ticks.read_bytes().endswith(b"!")


def _build(directory, index, count, teachers, panel, ticks):
    from strided_backbones import tiny_backbone

    from fusionproxy_jax.config import DDFMConfig, PanelConfig, TeacherConfig
    from fusionproxy_jax.teachers.cache import build_cache

    config = TeacherConfig(
        teachers=tuple(teachers),
        num_samples=2,
        ddfm=DDFMConfig(mode="balanced", num_steps=2),
        tile_px=32,
    )
    with open(ticks, "ab", buffering=0) as file:
        try:
            build_cache(
                [make_pair(index) for index in range(6)],
                config,
                directory,
                progress=lambda done, total: file.write(b"."),
                process_index=index,
                process_count=count,
                panel=(tiny_backbone("fine"), tiny_backbone("coarse", stride=7))
                if panel
                else (),
                panel_config=PanelConfig(grid=6, scale_tiles=11),
                panel_progress=lambda name, done, total: file.write(b"."),
            )
        finally:
            file.write(b"!")


def _serve():
    from fusionproxy_jax.teachers import manifest

    sys.path.append(str(HERE.parent))
    # Before the modules that take it from there: many shards of few tiles.
    manifest.TILES_PER_SHARD = 2
    import fusionproxy_jax.teachers.cache  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if not pid:
            code = 1
            try:
                _build(**request)
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    _serve()
