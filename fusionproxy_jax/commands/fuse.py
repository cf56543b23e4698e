"""`fusionproxy fuse`: visible and infrared files in, fused files out."""

import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TextIO

import tyro

from fusionproxy_jax.errors import FusionProxyError


@dataclass(frozen=True, kw_only=True)
class Fuse:
    """Fuse visible and infrared images: files, folders or patterns.

    One pair:    fusionproxy fuse --visible day.jpg --infrared heat.png --out fused.png

    Two folders: fusionproxy fuse --visible rgb/ --infrared thermal/ --out fused/

    Patterns:    fusionproxy fuse --visible '*_rgb.png' --infrared '*_ir.png' --out out/

    PNG, JPEG, TIFF and BMP of 8 or 16 bits are read. The result has the visible image's
    size, colours and bit depth. In folders, partners have the same name, or names that
    differ in a word such as rgb, visible, ir or thermal. A pair that cannot be read is
    reported and left out; the exit code is then 2.
    """

    visible: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="V [V ...]", help="Visible image, folder of images, or pattern."
        ),
    ]
    infrared: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="I [I ...]",
            help="Infrared image, folder or pattern. Another size than the visible "
            "image's is resized; raw 16-bit and float thermal frames are normalised.",
        ),
    ]
    out: Annotated[
        str,
        tyro.conf.arg(
            metavar="O",
            help="Result: a file when it ends in an image suffix, else a folder, where "
            "results are PNG files named after the visible images.",
        ),
    ]
    model: Annotated[
        str,
        tyro.conf.arg(
            metavar="NAME|FILE.onnx",
            help="Student to fuse with: nano, small, base, nano_int8, small_int8, or "
            "an exported ONNX file.",
        ),
    ] = "small"
    overwrite: Annotated[
        tyro.conf.FlagCreatePairsOff[bool],
        tyro.conf.arg(
            help="Replace results that exist; without it they are an error and nothing "
            "is written. Inputs are never replaced.",
        ),
    ] = False
    threads: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="N",
            help="Threads of the network; all physical cores by default.",
        ),
    ] = None

    def run(self) -> int:
        """Fuses every pair; returns 2 when some of them had to be left out."""
        from fusionproxy_jax.runtime.batch import Outcome, fuse_jobs, plan
        from fusionproxy_jax.runtime.fuser import load

        # Pillow's remarks on metadata would bury the sentence about a damaged image.
        warnings.filterwarnings("ignore", module="PIL")
        jobs = plan(self.visible, self.infrared, self.out, overwrite=self.overwrite)
        fuse = load(self.model, threads=self.threads)
        progress = _Progress(len(jobs), sys.stderr)
        start = time.perf_counter()
        done: list[Outcome] = []
        num_bad = 0
        for outcome in fuse_jobs(jobs, fuse):
            if outcome.error is None:
                done.append(outcome)
            elif len(jobs) == 1:
                raise FusionProxyError(outcome.error)
            else:
                num_bad += 1
                progress.say(f"left out {outcome.job.visible.name}: {outcome.error}")
            progress.advance()
        progress.clear()
        seconds = time.perf_counter() - start
        if done:
            print(_summary(done, len(jobs), Path(self.out), seconds))
        if num_bad:
            progress.say(f"{num_bad} of {len(jobs)} pairs were left out")
        return 2 if num_bad else 0


def _summary(done: Sequence, num_jobs: int, out: Path, seconds: float) -> str:
    """Returns the result line: where, how many, sizes, milliseconds per pair."""
    sizes = {(outcome.width_px, outcome.height_px) for outcome in done}
    width_px, height_px = next(iter(sizes))
    size = f"{width_px}x{height_px} px" if len(sizes) == 1 else f"{len(sizes)} sizes"
    fuse_ms = sum(outcome.fuse_ms for outcome in done) / len(done)
    if num_jobs == 1:
        return f"{done[0].job.out}: {size}, fused in {fuse_ms:.0f} ms"
    count = f"{len(done)}" if len(done) == num_jobs else f"{len(done)} of {num_jobs}"
    return (
        f"{out}: {count} pairs, {size}, {fuse_ms:.0f} ms per pair "
        f"({1e3 * seconds / num_jobs:.0f} ms with reading and writing)"
    )


class _Progress:
    """A counter on one line of a terminal, or a line now and then in a log file."""

    def __init__(self, num_jobs: int, stream: TextIO, *, log_every_s: float = 10.0):
        self._num_jobs = num_jobs
        self._num_done = 0
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._every_s = 0.1 if self._is_terminal else log_every_s
        self._start = self._last = time.monotonic()

    def advance(self) -> None:
        """Counts one pair, and shows the count when it is time."""
        self._num_done += 1
        now = time.monotonic()
        if self._num_jobs == 1 or now - self._last < self._every_s:
            return
        self._last = now
        left = self._num_jobs - self._num_done
        left_s = (now - self._start) / self._num_done * left
        line = f"{self._num_done}/{self._num_jobs} pairs, {left_s:.0f} s left"
        self._stream.write(f"\r{line}\033[K" if self._is_terminal else f"{line}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Removes the counter from a terminal."""
        if self._is_terminal and self._num_jobs > 1:
            self._stream.write("\r\033[K")
            self._stream.flush()

    def say(self, sentence: str) -> None:
        """Writes a sentence on a line of its own, in front of the counter."""
        self.clear()
        self._stream.write(f"fusionproxy: {sentence}\n")
