"""Sharding: one program on every device, each with its own shots and no word to the others."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SHOTS = "shots"


def shot_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Return the mesh of these devices, all of this process by default, along shots."""
    found = jax.local_devices() if devices is None else list(devices)
    return Mesh(np.array(found), (SHOTS,))


def over_shots(
    function: Callable[..., Any],
    mesh: Mesh,
    split: tuple[int | None, ...],
    out: int | tuple[int, ...] = 0,
) -> Callable[..., Any]:
    """Return function on every device of a mesh, each with its own part of the shots.

    split: of each argument, the axis of its leaves that holds shots; None gives it to all whole.
    out: that of the results, or of each of a tuple of them.
    What a shot yields does not depend on its device, since nothing is exchanged; a leaf's axis of
    shots must be a multiple of the devices.
    """

    def along(axis: int | None) -> PartitionSpec:
        return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, SHOTS)

    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=tuple(along(axis) for axis in split),
        out_specs=tuple(map(along, out)) if isinstance(out, tuple) else along(out),
        # The native kernel is opaque to JAX's analysis of what is replicated.
        check_vma=False,
    )


def place(mesh: Mesh, value: Any, axis: int) -> jax.Array:
    """Return a host's array divided among the devices of a mesh along an axis of shots.

    Under jax.distributed every process gives the whole array and keeps its own part.
    """
    host = np.asarray(value)
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, SHOTS))
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
