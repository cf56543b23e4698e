"""Spreads one pure step over devices: `pmap`, or `jit` over a mesh of sharded batches.

Both run the same function; the batch is cut along its first axis, everything else is
held by every device, but for parts of the state that `jit` may cut, too. This is the
only file that names pmap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fusionproxy_jax.training.batch_rows import BatchRows, rows_of_process

PyTree = Any
Mode = Literal["pmap", "jit"]

BATCH_AXIS = "batch"


@dataclass(frozen=True)
class Parallel:
    """A step on devices, and the way in and out of them.

    Attributes:
        run: (state, batch, key) -> (state, metrics); the state passed in is donated and
            must not be used again. `key` is one key, the same on every process.
        lower: As `run`, but returns the program of such a call instead of calling it;
            compiled, it is what `run` goes on with.
        shard_batch: This process's images of a global batch to its devices, filled up
            to equal numbers with rows of weight 0.
        replicate: A state, equal on every process, to all devices.
        unreplicate: Any result of `run`, or a replicated state, to NumPy arrays that
            own their memory; on every process, all of which must call it.
        rows: The images that this process loads.
    """

    run: Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, PyTree]]
    lower: Callable[[PyTree, PyTree, jax.Array], jax.stages.Lowered]
    shard_batch: Callable[[PyTree], PyTree]
    replicate: Callable[[PyTree], PyTree]
    unreplicate: Callable[[PyTree], PyTree]
    rows: BatchRows


def parallelize(
    make_step: Callable[[str | None], Callable],
    *,
    mode: Mode,
    batch_size: int,
    num_parts: int = 1,
    frozen: PyTree = None,
    sharded: Callable[[PyTree], PyTree] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Parallel:
    """Returns the step made by `make_step(axis_name)`, spread over devices.

    Args:
        make_step: Gets the name of the mapped axis, or None when it will see the whole
            batch, and returns a pure (state, batch, key, frozen) -> (state, metrics).
        mode: "pmap" maps the step and averages explicitly; "jit" shards the arrays and
            leaves communication to the compiler.
        batch_size: Images of a global batch.
        num_parts: The step takes a device's rows in so many equal parts.
        frozen: Arrays that every step gets; copied to the devices once, here.
        sharded: State to booleans of its structure: which leaves are cut over the
            devices, along the first axis that they divide; for "jit" only.
        devices: All devices of the run, of every process; None takes all there are.

    Raises:
        FusionProxyError: A process would get no image.
    """
    everywhere = sorted(
        jax.devices() if devices is None else devices,
        # On a TPU slice, devices of one process need not be numbered in a row; what a
        # process has of a global array should be.
        key=lambda device: (device.process_index, device.id),
    )
    rows = rows_of_process(batch_size, everywhere, num_parts=num_parts)
    if mode == "pmap":
        return _with_pmap(make_step(BATCH_AXIS), rows, frozen, everywhere)
    return _with_jit(make_step(None), rows, frozen, everywhere, sharded)


def to_host(tree: PyTree) -> PyTree:
    """Returns global arrays as NumPy arrays that own their memory, on every process."""
    return jax.tree.map(_to_host, tree)


def _to_host(array: jax.Array) -> np.ndarray:
    # A copy: on CPU a view would pin the buffer that the next step wants donated.
    if array.is_fully_replicated:
        return np.array(array.addressable_data(0))
    if array.is_fully_addressable:
        return np.array(array)
    return np.array(multihost_utils.process_allgather(array, tiled=True))


def place(sharding: NamedSharding) -> Callable[[PyTree], PyTree]:
    """Returns what makes global arrays of each process's part of them."""
    return lambda tree: jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree
    )


def mesh_of(devices: Sequence[jax.Device], axis_name: str) -> Mesh:
    """Returns the devices in a row."""
    # Auto axes: an Explicit mesh makes convolutions on its arrays a type error.
    return Mesh(np.array(devices), (axis_name,), axis_types=(AxisType.Auto,))


def _with_pmap(
    step: Callable, rows: BatchRows, frozen: PyTree, devices: list[jax.Device]
) -> Parallel:
    local = [d for d in devices if d.process_index == jax.process_index()]
    leading = NamedSharding(mesh_of(local, BATCH_AXIS), PartitionSpec(BATCH_AXIS))
    mapped = jax.pmap(
        step,
        axis_name=BATCH_AXIS,
        in_axes=(0, 0, None, 0),
        devices=devices,
        donate_argnums=(0,),
    )

    def shard(array: np.ndarray) -> jax.Array:
        parts = np.reshape(array, (len(local), -1, *np.shape(array)[1:]))
        return jax.device_put(parts, leading)

    def copy_to_all(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jax.device_put(np.stack([array] * len(local)), leading)

    everywhere_frozen = jax.tree.map(copy_to_all, frozen)
    return Parallel(
        run=lambda state, batch, key: mapped(state, batch, key, everywhere_frozen),
        lower=lambda *inputs: mapped.lower(*inputs, everywhere_frozen),
        shard_batch=lambda batch: jax.tree.map(shard, rows.fill_up(batch)),
        replicate=lambda state: jax.tree.map(copy_to_all, state),
        unreplicate=lambda tree: jax.tree.map(
            lambda x: np.array(x.addressable_data(0))[0], tree
        ),
        rows=rows,
    )


def _with_jit(
    step: Callable,
    rows: BatchRows,
    frozen: PyTree,
    devices: list[jax.Device],
    sharded: Callable[[PyTree], PyTree] | None,
) -> Parallel:
    mesh = mesh_of(devices, BATCH_AXIS)
    cut = NamedSharding(mesh, PartitionSpec(BATCH_AXIS))
    whole = NamedSharding(mesh, PartitionSpec())

    def shardings(state: PyTree) -> PyTree:
        if sharded is None:
            return jax.tree.map(lambda _: whole, state)
        return jax.tree.map(
            lambda leaf, is_cut: _along_first(leaf, mesh) if is_cut else whole,
            state,
            sharded(state),
        )

    def constrained(*inputs: PyTree) -> tuple[PyTree, PyTree]:
        state, metrics = step(*inputs)
        return (
            jax.lax.with_sharding_constraint(state, shardings(state)),
            jax.lax.with_sharding_constraint(metrics, whole),
        )

    # Shardings of the inputs are those they come with.
    compiled = jax.jit(constrained, donate_argnums=(0,))

    def replicate(state: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf, sharding: jax.make_array_from_callback(
                np.shape(leaf), sharding, lambda index: np.asarray(leaf)[index]
            ),
            state,
            shardings(state),
        )

    everywhere_frozen = place(whole)(frozen)
    return Parallel(
        run=lambda state, batch, key: compiled(state, batch, key, everywhere_frozen),
        lower=lambda *inputs: compiled.lower(*inputs, everywhere_frozen),
        shard_batch=lambda batch: place(cut)(rows.fill_up(batch)),
        replicate=replicate,
        unreplicate=to_host,
        rows=rows,
    )


def _along_first(leaf: Any, mesh: Mesh) -> NamedSharding:
    """Returns the cut along the first axis that the devices divide; none, if none."""
    for axis, length in enumerate(np.shape(leaf)):
        if length and length % mesh.size == 0:
            spec = [None] * axis + [BATCH_AXIS]
            return NamedSharding(mesh, PartitionSpec(*spec))
    return NamedSharding(mesh, PartitionSpec())
