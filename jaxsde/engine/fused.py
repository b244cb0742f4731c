"""Fused: shots by the native kernel, from their first sample to their last in registers.

The kernel (kernels/shot.h) takes a StepTable and the shots' indices; what is not asked for is never
stored.  Its derivative is the same kernel on maps of twice the size, for as many tangents at a
time as `jax.jacfwd` asks; for reverse mode take the scan.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxsde.engine.native import Build
from jaxsde.engine.outputs import GROUP, Asked, Outputs
from jaxsde.engine.tables import StepTable

MAX_NODES, MAX_FILTERS = 16, 16  # kernels/shot.h
# Shots that a thread takes at a time where nothing is added up.
TASK = 256
# Tangents of one call (kernels/cuda.cu); more take further calls.
TANGENTS = 8


@dataclasses.dataclass(frozen=True)
class _Job:
    """What a call of the kernel needs to know beside numbers."""

    target: str
    asked: Asked
    program: tuple
    n: int
    k: int
    nodes: int
    n_filters: int
    group: int


class _Raw(NamedTuple):
    """What the kernel writes; of tangents, with their axis first."""

    record: Array
    filters: Array
    states: Array
    sums: Array


def advance_fused(
    build: Build,
    seed: UInt32[Array, "2"],
    table: StepTable,
    ids: UInt32[Array, "shots"],
    asked: Asked,
    dtype: jnp.dtype,
    *,
    row: Float[Array, "n"] | None = None,
    weights: Float[Array, "filters samples quadratures"] | None = None,
) -> Outputs:
    """Advance shots by the kernel: differentiable forwards, in the table alone.

    row: D = row x, for sums.  weights: of filters, sum_t weights_t y_t.
    Raises TypeError for a derivative along weights or row.
    """
    n_filters = 0 if weights is None else weights.shape[0]
    job = _Job(
        target=build.targets[f"advance_f{8 * jnp.dtype(dtype).itemsize}"],
        asked=asked,
        program=table.program,
        n=table.n,
        k=table.k,
        nodes=table.nodes,
        n_filters=n_filters,
        group=GROUP if asked.features(table.n) else TASK,
    )
    row = jnp.zeros(table.n) if row is None else row
    return _outputs(job, dtype, table.maps, table.start, seed, ids, row, weights)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _outputs(job: _Job, dtype, maps, start, seed, ids, row, weights) -> Outputs:
    if weights is None:
        wide = jnp.zeros((0,), dtype)
    else:
        # Filters come in fours; (samples, quadratures, filters), as the loop reads them.
        surplus = -job.n_filters % 4
        wide = jnp.pad(jnp.moveaxis(weights, 0, -1), ((0, 0), (0, 0), (0, surplus)))
    made = _advance(job, maps, start, seed, ids, row.astype(dtype), wide.astype(dtype))
    return Outputs(**made._asdict(), clipped=jnp.zeros(ids.shape[0], jnp.int32))


def _operands(maps: Array, dtype: jnp.dtype) -> tuple[Array, Bool[Array, "maps size"]]:
    """Return maps (1 + D, maps, 1 + terms, size) as the kernel reads them, and which are not zero.

    The constant of each polynomial is the sum of its first two numbers, so that what is small
    is added to its remainder before it is rounded.
    """
    high = maps[..., :1, :].astype(dtype)
    low = (maps[..., :1, :] - high.astype(maps.dtype)).astype(dtype)
    rest = maps[..., 1:, :].astype(dtype)
    return jnp.concatenate([high, low, rest], axis=-2), jnp.any(maps != 0, axis=(0, 2))


def _live_pairs(used: Bool[Array, "maps size"], n: int, k: int) -> Int[Array, "maps"]:
    """Return for each map a bit for each pair of normals that some row uses.

    Bit 30 tells that every row uses no normal but its own.
    """
    columns = [jnp.zeros(used.shape[0], bool)] * (n + k)
    at, diagonal = 0, jnp.ones(used.shape[0], bool)
    for i in range(n + k):
        at += n + 1
        for j in range(i + 1):
            columns[j] = columns[j] | used[:, at + j]
        diagonal = diagonal & ~used[:, at : at + i].any(axis=1)
        at += i + 1
    pairs = [jnp.stack(columns[j : j + 2]).any(0) for j in range(0, n + k, 2)]
    return sum(
        (pair.astype(jnp.int32) << p for p, pair in enumerate(pairs)),
        start=diagonal.astype(jnp.int32) << 30,
    )


@functools.partial(jax.jit, static_argnums=(0,))
def _call(job: _Job, maps, starts, seed, ids, row, weights) -> _Raw:
    """Call the kernel on maps (1 + D, maps, terms, size) and starts (1 + D, roots).

    With D = 0 the outputs are those of the shots, else of the D tangents.
    """
    dtype, asked = row.dtype, job.asked
    tables, used = _operands(maps, dtype)
    tangents, shots = maps.shape[0] - 1, ids.shape[0]
    samples = sum(line[1] for line in job.program)
    stages = sum(line[4] for line in job.program)
    n_filters, features = 4 * math.ceil(job.n_filters / 4), asked.features(job.n)
    lead = max(tangents, 1)

    def shape(wanted: bool, *sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes if wanted else (0,) * len(sizes), dtype)

    call = jax.ffi.ffi_call(
        job.target,
        (
            shape(asked.record, lead, shots, samples, job.k),
            shape(job.n_filters > 0, lead, shots, n_filters),
            shape(asked.states, lead, shots, stages, job.n),
            shape(features > 0, -(-shots // job.group), samples, features),
        ),
        vmap_method="sequential",
    )
    record, filters, states, sums = call(
        seed,
        ids,
        jnp.asarray(np.array(job.program, np.int32)),
        _live_pairs(used, job.n, job.k),
        tables,
        starts.astype(dtype),
        row,
        weights,
        n_samples=np.int64(samples),
        n_stages=np.int64(stages),
        n_outputs=np.int64(job.k),
        nodes=np.int64(job.nodes),
        n_filters=np.int64(n_filters),
        features=np.int64(features),
        group=np.int64(job.group),
    )
    filters = filters[..., : job.n_filters]
    if tangents == 0:
        record, filters, states = (
            x[0] if x.size else x.reshape((0,) * (x.ndim - 1)) for x in (record, filters, states)
        )
    return _Raw(record, filters, states, sums)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _advance(job: _Job, maps, start, seed, ids, row, weights) -> _Raw:
    return _call(job, maps[None], start[None], seed, ids, row, weights)


@functools.partial(_advance.defjvp, symbolic_zeros=True)
def _advance_jvp(job: _Job, primals, tangents):
    maps, start, *others = primals
    d_maps, d_start, *fixed = tangents
    zero = jax.custom_derivatives.SymbolicZero
    if job.asked.features(job.n) or not all(isinstance(t, zero) for t in fixed[2:]):
        raise TypeError(
            "backend: wanted derivatives of records, filter outputs and states along parameters, "
            "which the fused kernel has; take backend='scan' for those of sums, or along weights"
        )

    def solid(tangent, primal):
        return jnp.zeros_like(primal) if isinstance(tangent, zero) else tangent

    out = _advance(job, *primals)
    made = _tangent(job)(maps, start, solid(d_maps, maps), solid(d_start, start), *others)
    return out, made._replace(sums=jnp.zeros_like(out.sums))


@functools.cache
def _tangent(job: _Job):
    """Return the function of one tangent, which under vmap makes all of them in one call."""

    def several(maps, start, d_maps, d_start, *others) -> _Raw:
        all_maps = jnp.concatenate([maps[None], d_maps])
        return _call(job, all_maps, jnp.concatenate([start[None], d_start]), *others)

    @jax.custom_batching.custom_vmap
    def one(maps, start, d_maps, d_start, *others) -> _Raw:
        made = several(maps, start, d_maps[None], d_start[None], *others)
        return jax.tree.map(lambda x: x[0] if x.size else x.reshape((0,) * (x.ndim - 1)), made)

    @one.def_vmap
    def _(size, batched, maps, start, d_maps, d_start, *others):
        if any((*batched[:2], *batched[4:])):
            mapped = jax.custom_batching.sequential_vmap(one.fun)
            axes = tuple(0 if b else None for b in batched)
            out = jax.vmap(mapped, axes, axis_size=size)(maps, start, d_maps, d_start, *others)
            return out, jax.tree.map(lambda _: True, out)
        d_maps, d_start = (
            d if b else jnp.broadcast_to(d[None], (size, *d.shape))
            for d, b in zip((d_maps, d_start), batched[2:4], strict=True)
        )
        parts = [
            several(maps, start, d_maps[i : i + TANGENTS], d_start[i : i + TANGENTS], *others)
            for i in range(0, size, TANGENTS)
        ]
        out = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
        out = jax.tree.map(lambda x: x if x.size else x.reshape((size, *[0] * (x.ndim - 1))), out)
        return out, jax.tree.map(lambda _: True, out)

    return one
