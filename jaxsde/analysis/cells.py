"""Cells: shots made and reduced on the device, a few cells at a time on each."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt32

from jaxsde.analysis.sums import CELL, Reduction, cell_sums, filter_outputs
from jaxsde.engine.backends import Backend, run
from jaxsde.engine.detect import Detector
from jaxsde.engine.noise import FREQUENCY, normals
from jaxsde.engine.outputs import GROUP, Asked
from jaxsde.engine.plan import sigmas
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.sharding import over_shots
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

# Each keeps what those before it keep, but for the moments, which only add sums.
KEEPS = ("estimates", "moments", "filters", "records")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Production:
    """Hold all that the shots of one ensemble are made and reduced by.

    prepared: what the backend reads.  weights: of matched filters, or None.
    keep: one of KEEPS.  dtype: of the trajectories.
    """

    seed: UInt32[Any, "2"]
    params: Params
    sequence: Sequence
    detector: Detector
    prepared: Any
    reduction: Reduction
    weights: Float[Any, "filters samples quadratures"] | None
    backend: Backend = dataclasses.field(metadata=dict(static=True))
    resolution: Resolution = dataclasses.field(metadata=dict(static=True))
    dtype: str = dataclasses.field(metadata=dict(static=True))
    keep: str = dataclasses.field(metadata=dict(static=True))


def _engine(made: Production, ids: Array, asked: Asked, weights: Array | None = None):
    return run(
        made.backend,
        made.prepared,
        jnp.asarray(made.seed),
        made.params,
        made.sequence,
        made.detector,
        ids,
        made.resolution,
        jnp.dtype(made.dtype),
        asked=asked,
        weights=weights,
    )


def _cells(made: Production, ids: Array, end: Array) -> dict[str, Array]:
    """Return sums of every cell of these shots, and what is kept of the shots below `end`."""
    # The kernel's filters run in its loop; else the record is weighed in a fixed order.
    inside = made.backend.build is not None and made.detector.technical is None
    out = _engine(made, ids, Asked(), made.weights if inside else None)
    finite = jnp.isfinite(out.record).all((1, 2)) & jnp.isfinite(out.states).all((1, 2))
    split = functools.partial(jax.tree.map, lambda x: x.reshape(-1, CELL, *x.shape[1:]))
    live = ids < end
    filters = out.filters if inside and made.weights is not None else None

    def one(cell):
        record, q, clipped, live = cell
        if made.weights is not None and q is None:
            q = filter_outputs(record, made.weights)
        return cell_sums(made.reduction, record, q, clipped, live), q

    sums, outputs = jax.lax.map(one, split((out.record, filters, out.clipped, live)))
    kept = dict(sums=sums, bad=(live & ~finite).astype(jnp.int8))
    if made.keep in ("filters", "records"):
        kept |= _frequencies(made, ids)
        if outputs is not None:
            kept |= dict(filters=outputs.reshape(ids.shape[0], -1))
    if made.keep == "records":
        kept |= dict(record=out.record, state=out.states, clipped=out.clipped)
    return kept


def _frequencies(made: Production, ids: Array) -> dict[str, Array]:
    """Return the shots' omega_m and omega_s at rest, rad/s."""
    z = normals(jnp.asarray(made.seed), FREQUENCY, jnp.uint32(0), ids, 2, jnp.result_type(float))
    rest = jnp.stack([jnp.asarray(made.params.omega_m), jnp.asarray(made.params.omega_s)])
    omega = rest[:, None] + sigmas(made.params)[:, None] * z
    return dict(omega_m=omega[0], omega_s=omega[1])


@functools.partial(jax.jit, static_argnames=("mesh", "cells"))
def _wave(made: Production, first: Array, end: Array, *, mesh: Mesh, cells: int):
    ids = first + jnp.arange(mesh.size * cells * CELL, dtype=jnp.uint32)
    return over_shots(_cells, mesh, (None, 0, None))(made, ids, end)


def make_cells(
    made: Production, first: int, end: int, *, mesh: Mesh, cells: int
) -> dict[str, Array]:
    """Make the shots from `first` on: `cells` cells on each device of the mesh; none from `end` on.

    Returns sums (cells, features), bad (1 where a shot is not finite) and what is kept of each
    shot.  Shots beyond `end` are made all the same, and enter no sum: a cell is always whole, so
    that one program serves any number of shots.
    """
    return _wave(made, jnp.uint32(first), jnp.uint32(min(end, 2**32 - 1)), mesh=mesh, cells=cells)


@functools.partial(jax.jit, static_argnames=("mesh", "groups"))
def _group_wave(made: Production, first: Array, *, mesh: Mesh, groups: int):
    asked = Asked(record=False, states=False, moments=True)
    ids = first + jnp.arange(mesh.size * groups * GROUP, dtype=jnp.uint32)
    return over_shots(lambda made, ids: _engine(made, ids, asked).sums, mesh, (None, 0))(made, ids)


@jax.jit
def _rest(made: Production, ids: Array):
    return _engine(made, ids, Asked(record=False, states=False, moments=True)).sums


def make_moments(
    made: Production, first: int, end: int, *, mesh: Mesh, groups: int
) -> list[np.ndarray]:
    """Return sums over shots of D^2, D^4 and x_i x_j at every sample, of every group of GROUP.

    From `first` to `end`, `groups` groups on each device at a time; see `engine.outputs.Outputs`.
    """
    out, at, size = [], first, mesh.size * groups * GROUP
    while end - at >= GROUP:
        sums = np.asarray(_group_wave(made, jnp.uint32(at), mesh=mesh, groups=groups), float)
        whole = min((end - at) // GROUP, sums.shape[0])
        out += list(sums[:whole])
        at += min(size, whole * GROUP)
    if end > at:
        ids = jnp.uint32(at) + jnp.arange(end - at, dtype=jnp.uint32)
        out += list(np.asarray(_rest(made, ids), float))
    return out
