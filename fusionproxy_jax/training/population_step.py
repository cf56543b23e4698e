"""Many students trained by one compiled step, on the same batches.

Members differ in numbers (`knobs`) and keys only, which are arrays [m, ...] of the
program. It steps a chunk of them: over devices a chunk is cut along a mesh axis of its
own, inside a device its members are vmapped, and no device ever waits for another, as
what a member does depends on no other member. Chunks take turns on one batch: they are
calls of the same program, and no loop within it, which was slower on CPU.

A member whose loss, gradient or parameters are no longer finite is dead: it keeps what
it had before that step, and nothing of it reaches the others.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import NamedSharding, PartitionSpec

from fusionproxy_jax.training.knobs import Knobs
from fusionproxy_jax.training.parallel import mesh_of, place, to_host
from fusionproxy_jax.training.state import TrainState
from fusionproxy_jax.training.update import Batch, Metrics, TrainStep

PyTree = Any
T = TypeVar("T")
MEMBER_AXIS = "member"


@struct.dataclass
class Member:
    """One student under way, or with a leading axis [m] several.

    Attributes:
        state: After its last finite step.
        died_at: Number of the step that was not finite, 0 while it lives; int32.
    """

    state: TrainState
    died_at: jax.Array


@jax.tree_util.register_pytree_node_class
class Chunks(tuple[T, ...]):
    """What members have, for each chunk of them arrays [members of a chunk, ...]."""

    def tree_flatten(self) -> tuple[tuple[T, ...], None]:
        """Returns the chunks, and nothing beside."""
        return tuple(self), None

    @classmethod
    def tree_unflatten(cls, _: None, chunks: Iterable[T]) -> "Chunks[T]":
        """Returns the chunks together."""
        return cls(chunks)


@dataclass(frozen=True)
class Population:
    """A step of all members on devices, and the way in and out of them.

    Attributes:
        run: (members, batch) -> (members, metrics by name); the members passed in are
            donated. `metrics["finite"]` is False for the dead.
        lower: As `run`, but returns the program of a chunk instead of calling it.
        place_batch: The whole batch, equal on every process, to all devices.
        place: Members [m, ...], equal on every process, to their devices, in chunks.
        fetch: Members or metrics, or a list of them, in chunks, as NumPy arrays [m,
            ...] that own their memory; on every process, all of which must call it.
    """

    run: Callable[[Chunks[Member], PyTree], tuple[Chunks[Member], Chunks[Metrics]]]
    lower: Callable[[Chunks[Member], PyTree], jax.stages.Lowered]
    place_batch: Callable[[PyTree], PyTree]
    place: Callable[[Member], Chunks[Member]]
    fetch: Callable[[PyTree], PyTree]


def populate(
    make_step: Callable[[str | None, Knobs], TrainStep],
    knobs: Knobs,
    keys: jax.Array,
    *,
    frozen: PyTree = None,
    members_at_once: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Population:
    """Returns the step made by `make_step`, for all members, spread over devices.

    Args:
        make_step: (None, a member's knobs) to its pure step on the whole batch.
        knobs: Arrays [m].
        keys: The members' keys [m], one for all their steps.
        frozen: Arrays that every step of every member gets.
        members_at_once: Members that one device steps together, by `jax.vmap`; the
            others take turns with them. None is all, and one on CPU, where convolutions
            of several members are slower than each alone.
        devices: Of every process; None takes all there are, or in a single process as
            many as there are members.
    """
    num_members = keys.shape[0]
    devices = list(jax.devices() if devices is None else devices)
    if jax.process_count() == 1:
        devices = devices[:num_members]
    mesh = mesh_of(devices, MEMBER_AXIS)
    own = NamedSharding(mesh, PartitionSpec(MEMBER_AXIS))
    whole = NamedSharding(mesh, PartitionSpec())
    if members_at_once is None:
        members_at_once = 1 if devices[0].platform == "cpu" else num_members
    of_device = min(members_at_once, -(-num_members // mesh.size))
    chunks = _chunks(num_members, of_device * mesh.size)

    def step_members(
        members: Member, knobs: Knobs, keys: jax.Array, batch: Batch, frozen: PyTree
    ) -> tuple[Member, Metrics]:
        def advance(
            member: Member, knobs: Knobs, key: jax.Array
        ) -> tuple[Member, Metrics]:
            step = make_step(None, knobs)
            return _advance(step, member, key, batch, frozen)

        if of_device > 1:
            return jax.vmap(advance)(members, knobs, keys)
        one = jax.tree.map(lambda leaf: leaf[0], (members, knobs, keys))
        return jax.tree.map(lambda leaf: leaf[None], advance(*one))

    spread, same = PartitionSpec(MEMBER_AXIS), PartitionSpec()
    compiled = jax.jit(
        jax.shard_map(
            step_members,
            mesh=mesh,
            in_specs=(spread, spread, spread, same, same),
            out_specs=spread,
            # Nothing is the same on all devices; the check would look for what is.
            check_vma=False,
        ),
        donate_argnums=(0,),
    )

    def place_members(tree: PyTree) -> Chunks:
        return Chunks(
            jax.tree.map(lambda leaf, rows=rows: _spread(leaf, rows, own), tree)
            for rows in chunks
        )

    constants = [
        (knobs, jax.random.wrap_key_data(data))
        for knobs, data in place_members((knobs, jax.random.key_data(keys)))
    ]
    everywhere_frozen = place(whole)(frozen)

    def run(members: Chunks[Member], batch: PyTree) -> tuple[Chunks, Chunks]:
        stepped = [
            compiled(chunk, *own, batch, everywhere_frozen)
            for chunk, own in zip(members, constants, strict=True)
        ]
        return tuple(Chunks(results) for results in zip(*stepped, strict=True))

    def fetch(tree: PyTree) -> PyTree:
        if not isinstance(tree, Chunks):
            return [fetch(one) for one in tree]
        return jax.tree.map(
            lambda *parts: np.concatenate(parts)[:num_members], *map(to_host, tree)
        )

    return Population(
        run=run,
        lower=lambda members, batch: compiled.lower(
            members[0], *constants[0], batch, everywhere_frozen
        ),
        place_batch=place(whole),
        place=place_members,
        fetch=fetch,
    )


def _chunks(num_members: int, size: int) -> list[np.ndarray]:
    """Returns the members of each chunk.

    Chunks have one size: the last member is computed again where some lack.
    """
    count = -(-num_members // size)
    return list(np.minimum(np.arange(count * size), num_members - 1).reshape(count, -1))


def _advance(
    step: TrainStep, member: Member, key: jax.Array, batch: Batch, frozen: PyTree
) -> tuple[Member, Metrics]:
    """One step of one member; the dead stay as they are."""
    moved, metrics = step(member.state, batch, key, frozen)
    lives = (member.died_at == 0) & metrics["finite"]
    state = jax.tree.map(
        lambda new, old: jnp.where(lives, new, old), moved, member.state
    )
    dies_now = (member.died_at == 0) & ~metrics["finite"]
    died_at = jnp.where(dies_now, member.state.step + 1, member.died_at)
    return Member(state, died_at), {**metrics, "finite": lives}


def _spread(leaf: Any, members: np.ndarray, sharding: NamedSharding) -> jax.Array:
    rows = np.asarray(leaf)[members]
    return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])
