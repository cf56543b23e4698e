"""Checkpoints of a run: state, position in the data, and what the run was made of.

Layout, under the run's folder: `checkpoints/<step>/{state,data,meta}`. A save is
written beside its final name and renamed, so a kill at any moment leaves whole
checkpoints only.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp

from fusionproxy_jax import __version__
from fusionproxy_jax.config import Config, StudentConfig, config_hash, to_json
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.state import TrainState

PyTree = Any

# What may change between a run and its resumption: it only says when to report.
_REPORTING = frozenset(
    {"log_every", "checkpoint_every", "picture_every", "keep_checkpoints"}
)


def run_metadata(config: Config, *, cache_hash: str, cache_config: str) -> dict:
    """Returns what is stored beside the state, as plain JSON values."""
    return {
        "config": json.loads(to_json(config)),
        "config_hash": config_hash(config),
        "cache_hash": cache_hash,
        "cache_config": cache_config,
        "code_version": __version__,
        "jax_version": jax.__version__,
    }


def _differences(stored: dict, current: dict, prefix: str = "") -> list[str]:
    found = []
    for name in sorted(stored.keys() | current.keys()):
        old, new = stored.get(name), current.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{name}.")
        elif old != new and not (prefix == "" and name in _REPORTING):
            found.append(f"{prefix}{name} was {old!r} and is now {new!r}")
    return found


def check_same_run(stored: dict, current: dict, *, workdir: Path) -> None:
    """Refuses to continue a run as a different one.

    Only fields that say when to report may change. The number of steps may not: the
    cosine of the learning rate is drawn over it, so a longer run is another run from
    its first step on.

    Raises:
        FusionProxyError: A setting or the teacher cache differs; all are named.
    """
    found = _differences(stored["config"], current["config"])
    if stored["cache_hash"] != current["cache_hash"]:
        found.append("the teacher cache is another one")
    if not found:
        return
    reason = (
        " (the learning rate's cosine depends on num_steps)"
        if any(text.startswith("num_steps ") for text in found)
        else ""
    )
    raise FusionProxyError(
        f"{workdir} holds a run with other settings: {'; '.join(found)}{reason}; "
        "give the old settings or another --workdir"
    )


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
                read_only=not writing,
                cleanup_tmp_directories=writing,
            ),
        )

    def latest_step(self) -> int | None:
        """Returns the step of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: grain.DatasetIterator, meta: dict) -> None:
        """Starts writing a checkpoint; `state` holds NumPy arrays not changed later.

        Raises:
            FusionProxyError: This one, or the one before it, could not be written.
        """
        with self._writing():
            self._manager.save(
                int(state.step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    data=grain.checkpoint.CheckpointSave(data),
                    meta=ocp.args.JsonSave(meta),
                ),
            )

    def read_meta(self) -> dict:
        """Returns the metadata of the newest checkpoint."""
        return self._restore(meta=ocp.args.JsonRestore()).meta

    def restore(self, empty: TrainState, data: grain.DatasetIterator) -> TrainState:
        """Returns the newest state, in the structure of `empty`; moves `data` to it."""
        return self._restore(
            state=ocp.args.StandardRestore(empty),
            data=grain.checkpoint.CheckpointRestore(data),
        ).state

    def restore_arrays(self) -> PyTree:
        """Returns the newest state as nested dicts of NumPy arrays."""
        return self._restore(state=ocp.args.StandardRestore()).state

    def _restore(self, **arguments: Any) -> Any:
        step = self.latest_step()
        try:
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
            reason = str(error).rpartition(": ")[2].partition(" [os_error")[0]
            raise FusionProxyError(
                f"could not write a checkpoint to {self._directory}: {reason}"
            ) from error


def student_config_from(meta: dict) -> StudentConfig:
    """Returns the student's configuration out of a run's metadata."""
    fields = meta["config"]["student"]
    return StudentConfig(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    )


def load_student(workdir: Path) -> tuple[StudentConfig, PyTree, dict]:
    """Returns configuration, averaged parameters (NumPy) and metadata of a run.

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
    params = jax.tree.map(np.asarray, params)
    return student_config_from(meta), params, {**meta, "step": step}
