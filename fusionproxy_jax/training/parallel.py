"""Spreads one pure step over devices: `pmap`, or `jit` over a mesh of sharded batches.

Both run the same function; the batch is cut along its first axis, everything else is
held by every device. This is the only file that names pmap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fusionproxy_jax.errors import FusionProxyError

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
        shard_batch: This process's host batch to its devices.
        replicate: A state, equal on every process, to all devices.
        unreplicate: Any result of `run`, or a replicated state, to NumPy arrays that
            own their memory.
        num_shards: Parts this process's batch is cut into.
    """

    run: Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, PyTree]]
    lower: Callable[[PyTree, PyTree, jax.Array], jax.stages.Lowered]
    shard_batch: Callable[[PyTree], PyTree]
    replicate: Callable[[PyTree], PyTree]
    unreplicate: Callable[[PyTree], PyTree]
    num_shards: int


def check_batch_size(batch_size: int, *, num_processes: int, num_shards: int) -> int:
    """Returns the images per process of a global batch.

    Raises:
        FusionProxyError: The batch cannot be cut into equal parts; equal parts are what
            makes the mean over devices the mean over images.
    """
    num_devices = num_processes * num_shards
    if batch_size % num_devices:
        raise FusionProxyError(
            f"data.batch_size is {batch_size}; it must be a multiple of the "
            f"{num_devices} devices"
        )
    return batch_size // num_processes


def parallelize(
    make_step: Callable[[str | None], Callable],
    *,
    mode: Mode,
    frozen: PyTree = None,
    devices: Sequence[jax.Device] | None = None,
) -> Parallel:
    """Returns the step made by `make_step(axis_name)`, spread over devices.

    Args:
        make_step: Gets the name of the mapped axis, or None when it will see the whole
            batch, and returns a pure (state, batch, key, frozen) -> (state, metrics).
        mode: "pmap" maps the step and averages explicitly; "jit" shards the arrays and
            leaves communication to the compiler.
        frozen: Arrays that every step gets; copied to the devices once, here.
        devices: All devices of the run, of every process; None takes all there are.
    """
    if mode == "pmap":
        return _with_pmap(make_step(BATCH_AXIS), frozen, devices)
    return _with_jit(make_step(None), frozen, devices)


def _first_copy(array: jax.Array) -> np.ndarray:
    # A copy: on CPU a view would pin the buffer that the next step wants donated.
    return np.array(array.addressable_data(0))


def _with_pmap(
    step: Callable, frozen: PyTree, devices: Sequence[jax.Device] | None
) -> Parallel:
    everywhere = jax.devices() if devices is None else devices
    local = [d for d in everywhere if d.process_index == jax.process_index()]
    num_shards = len(local)
    # Auto axes: an Explicit mesh makes convolutions on its arrays a type error.
    mesh = Mesh(np.array(local), (BATCH_AXIS,), axis_types=(AxisType.Auto,))
    leading = NamedSharding(mesh, PartitionSpec(BATCH_AXIS))
    mapped = jax.pmap(
        step,
        axis_name=BATCH_AXIS,
        in_axes=(0, 0, None, 0),
        devices=None if devices is None else list(devices),
        donate_argnums=(0,),
    )

    def shard(array: np.ndarray) -> jax.Array:
        parts = np.reshape(array, (num_shards, -1, *np.shape(array)[1:]))
        return jax.device_put(parts, leading)

    def copy_to_all(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jax.device_put(np.stack([array] * num_shards), leading)

    everywhere_frozen = jax.tree.map(copy_to_all, frozen)
    return Parallel(
        run=lambda state, batch, key: mapped(state, batch, key, everywhere_frozen),
        lower=lambda *inputs: mapped.lower(*inputs, everywhere_frozen),
        shard_batch=lambda batch: jax.tree.map(shard, batch),
        replicate=lambda state: jax.tree.map(copy_to_all, state),
        unreplicate=lambda tree: jax.tree.map(lambda x: _first_copy(x)[0], tree),
        num_shards=num_shards,
    )


def _with_jit(
    step: Callable, frozen: PyTree, devices: Sequence[jax.Device] | None
) -> Parallel:
    everywhere = jax.devices() if devices is None else devices
    mesh = Mesh(np.array(everywhere), (BATCH_AXIS,), axis_types=(AxisType.Auto,))
    sharded = NamedSharding(mesh, PartitionSpec(BATCH_AXIS))
    whole = NamedSharding(mesh, PartitionSpec())
    compiled = jax.jit(
        step,
        in_shardings=(whole, sharded, whole, whole),
        out_shardings=whole,
        donate_argnums=(0,),
    )

    def place(sharding: NamedSharding) -> Callable[[PyTree], PyTree]:
        return lambda tree: jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
            tree,
        )

    everywhere_frozen = place(whole)(frozen)
    return Parallel(
        run=lambda state, batch, key: compiled(state, batch, key, everywhere_frozen),
        lower=lambda *inputs: compiled.lower(*inputs, everywhere_frozen),
        shard_batch=place(sharded),
        replicate=place(whole),
        unreplicate=lambda tree: jax.tree.map(_first_copy, tree),
        num_shards=len(mesh.local_devices),
    )
