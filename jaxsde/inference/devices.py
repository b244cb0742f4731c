"""Devices: the likelihood's filter on many devices, of one process or of several.

Each device filters its own shots, and nothing is exchanged but the results: every process ends with
those of all shots, and so takes the same steps as the others.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsde.engine.sharding import over_shots, place
from jaxsde.inference.evidence import Evidence


def on_devices(
    function: Callable[..., Any],
    mesh: Mesh | None,
    axes: tuple[int, ...],
    whole: tuple[Any, ...],
    evidence: Evidence,
    dt: float,
) -> tuple[np.ndarray, ...]:
    """Return function(*whole, evidence, dt) for all shots, each device of the mesh taking its own.

    axes: of each result, the one that holds shots.  whole: what every device needs whole.
    The results are those of one device to rounding.  A mesh of None is this process' first device.
    """
    if mesh is None:
        made = function(*whole, evidence, dt)
        return tuple(np.asarray(part) for part in (made if isinstance(made, tuple) else (made,)))
    shots = evidence.record.shape[-1]
    host = np.asarray(evidence.record)
    # Shots that only fill the last device are copies of the last.
    host = np.pad(host, ((0, 0), (0, 0), (0, 0), (0, -shots % mesh.size)), mode="edge")
    seen = None if evidence.seen is None else np.asarray(evidence.seen)
    args = jax.tree.map(np.asarray, whole), seen, place(mesh, host, 3)
    made = _shared(*args, function=function, mesh=mesh, axes=axes, dt=dt)
    return tuple(
        np.take(np.asarray(part.addressable_data(0)), np.arange(shots), axis=axis)
        for part, axis in zip(made, axes, strict=True)
    )


@functools.partial(jax.jit, static_argnames=("function", "mesh", "axes", "dt"))
def _shared(whole, seen, record, *, function, mesh, axes, dt):
    def own(whole, seen, record):
        index = np.zeros((record.shape[2], record.shape[3]), int)
        part = Evidence(record=record, seen=seen, shots=index)
        made = function(*jax.tree.map(jnp.asarray, whole), part, dt)
        return made if isinstance(made, tuple) else (made,)

    made = over_shots(own, mesh, (None, None, 3), axes)(whole, seen, record)
    everywhere = NamedSharding(mesh, PartitionSpec())
    return tuple(jax.lax.with_sharding_constraint(part, everywhere) for part in made)
