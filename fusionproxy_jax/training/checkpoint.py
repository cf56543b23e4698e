"""Checkpoints of a run: its state, and what the run was made of.

Layout, under the run's folder: `checkpoints/<step>/{state,meta}`. A save is written
beside its final name and renamed, so a kill at any moment leaves whole checkpoints
only. The position in the data is the step. Of several processes all must call `save`
and `close`; the first one writes, all read. States are host arrays, whole, whatever
they were spread over: a run may go on on other devices.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fusionproxy_jax.config import StudentConfig, from_json
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.routing import split_routing

PyTree = Any


@contextmanager
def _quiet_late_reads() -> Iterator[None]:
    """Drops what reads still in flight say after one of them has failed.

    They report to an event loop that the failure has closed, each with a traceback on
    stderr, which would bury the one sentence that matters.
    """
    hook = sys.unraisablehook

    def drop_closed_loops(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = drop_closed_loops
    try:
        yield
    except Exception:
        time.sleep(0.5)
        raise
    finally:
        sys.unraisablehook = hook


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, workdir: Path, *, keep: int | None = None) -> None:
        """Opens `workdir`/checkpoints: to write, keeping the last `keep`, or to read.

        Reading changes nothing, so a run may be exported while it goes on; writing
        clears away what a killed run left half-saved.
        """
        # Orbax takes absolute paths only.
        self._directory = workdir.absolute() / "checkpoints"
        writing = keep is not None
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                create=writing,
                cleanup_tmp_directories=writing,
                multiprocessing_options=_together() if writing else _alone(),
            ),
        )

    def latest_step(self) -> int | None:
        """Returns the step of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: PyTree, meta: dict) -> None:
        """Starts writing a checkpoint; `state` holds NumPy arrays not changed later.

        Raises:
            FusionProxyError: This one, or the one before it, could not be written.
        """
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    meta=ocp.args.JsonSave(meta),
                ),
            )

    def reached_preemption(self, step: int) -> bool:
        """Returns whether all processes are to stop after `step`; all must ask.

        True from the step on that they have agreed upon after one of them, or its
        machine, got SIGTERM. Always False in a single process.
        """
        return self._manager.reached_preemption(step)

    def read_meta(self) -> dict:
        """Returns the metadata of the newest checkpoint."""
        return self._restore(meta=ocp.args.JsonRestore()).meta

    def restore(self, empty: PyTree) -> PyTree:
        """Returns the newest state, in the structure of `empty`."""
        return self._restore(state=ocp.args.StandardRestore(empty)).state

    def restore_arrays(self) -> PyTree:
        """Returns the newest state as nested dicts of NumPy arrays."""
        return self._restore(state=ocp.args.StandardRestore()).state

    def _restore(self, **arguments: Any) -> Any:
        step = self.latest_step()
        try:
            with _quiet_late_reads():
                return self._manager.restore(step, args=ocp.args.Composite(**arguments))
        # What a damaged file raises depends on which of a dozen readers meets it.
        except Exception as error:
            reason = str(error).strip().partition("\n")[0][:160]
            raise FusionProxyError(
                f"checkpoint {self._directory / str(step)} cannot be read "
                f"({type(error).__name__}: {reason}); delete that folder to fall back "
                "to the one before it"
            ) from error

    def close(self) -> None:
        """Waits until everything is written.

        Raises:
            FusionProxyError: Something could not be written.
        """
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns what background writers raise into a sentence."""
        try:
            yield
        # A full disk is an OSError here and a ValueError of tensorstore there, whose
        # text ends in the system's own words.
        except Exception as error:
            reason = str(error).rpartition(": ")[2].partition(" [")[0]
            raise FusionProxyError(
                f"could not write a checkpoint to {self._directory}: {reason}"
            ) from error


def has_checkpoint(workdir: Path) -> bool:
    """Returns whether a run in `workdir` would go on rather than begin."""
    # By the names of whole ones: another process of the run may be opening the folder.
    return any(path.name.isdecimal() for path in (workdir / "checkpoints").glob("*"))


def _together() -> ocp.options.MultiprocessingOptions:
    return ocp.options.MultiprocessingOptions()


def _alone() -> ocp.options.MultiprocessingOptions:
    """Returns what lets one of several processes read while the others do not."""
    if jax.process_count() == 1:
        return _together()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index,
        active_processes={index},
        barrier_sync_key_prefix=f"reader-{index}",
    )


def load_averaged(workdir: Path) -> tuple[PyTree, dict]:
    """Returns averaged parameters (NumPy) and metadata of a run of any network.

    Metadata is `run_metadata` plus the `step` the parameters were taken at.

    Raises:
        FusionProxyError: There is no checkpoint, or it cannot be read.
    """
    workdir = Path(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise FusionProxyError(
            f"no checkpoints in {workdir}; make them with `fusionproxy train "
            f"--workdir {workdir}`"
        )
    checkpoints = Checkpoints(workdir)
    try:
        step = checkpoints.latest_step()
        if step is None:
            raise FusionProxyError(
                f"{workdir} holds no finished checkpoint; run `fusionproxy train "
                f"--workdir {workdir}` again to get one"
            )
        meta = checkpoints.read_meta()
        params = checkpoints.restore_arrays()["ema_params"]
    finally:
        checkpoints.close()
    return jax.tree.map(np.asarray, params), {**meta, "step": step}


def load_student(workdir: Path) -> tuple[StudentConfig, PyTree, dict]:
    """Returns configuration, averaged parameters and metadata of a student's run.

    Raises:
        FusionProxyError: As `load_averaged`, or the run trained something else.
    """
    params, meta = load_averaged(workdir)
    if "student" not in meta["config"]:
        raise FusionProxyError(
            f"{workdir} holds the run of a teacher, not of a student; export it with "
            "`fusionproxy export-teacher`"
        )
    student, _ = split_routing(params)
    return from_json(StudentConfig, meta["config"]["student"]), student, meta
