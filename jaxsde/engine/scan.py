"""Scan: the plain JAX engine, one sample after another, shots side by side.

Slow and obvious, it runs on every device, is differentiable in both directions, and is the twin
that the fused kernel is tested by.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from jaxsde.engine.detect import Detector, independent_noise
from jaxsde.engine.noise import FREQUENCY, INITIAL, PROCESS, draw, normals, pair_keys
from jaxsde.engine.plan import Segment, at_offsets, jitter_basis, plan, segment_readout, segments
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.step import Step, Transition, make_step
from jaxsde.engine.technical import imperfect
from jaxsde.physics.model import N_STATE, initial_covariance
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

Planned = tuple[tuple[Segment, ...], tuple[Transition, ...], tuple[Array, ...], Array]


def advance(
    seed: Array,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    ids: Array,
    resolution: Resolution,
    dtype: Any,
    weights: Float[Array, "filters samples quadratures"] | None = None,
    planned: Planned | None = None,
    trajectory: bool = False,
) -> tuple[Array, Array, Array, Array]:
    """Advance shots through every stage by a scan: pure, and differentiable in both directions.

    Returns the record (samples, quadratures, shots), or with weights the filters' outputs
    sum_t weights_t y_t (filters, shots) so that no record is kept; the states at the ends of the
    stages (stages, 6, shots), or with trajectory at those of all samples; the shots' standard
    normal frequency offsets (2, shots); and how many of their samples the digitiser clipped
    (shots,).
    planned: of `plan_scan`, where it is at hand.
    Raises ValueError for weights with a technical layer, which acts on whole records.
    """
    if planned is None:
        planned = plan_scan(params, sequence, detector, resolution)
    technical = detector.technical
    if technical is not None and weights is not None:
        raise ValueError(
            "detector.technical: wanted None where filters run inside the loop, since local "
            "oscillator and digitiser act on whole records; leave it out of the model"
        )
    z, x = frequency_offsets(seed, ids), _start(seed, params, ids, dtype)
    basis = jitter_basis(z, resolution.jitter_nodes)
    outputs, states = [], []
    total = None if weights is None else jnp.zeros((weights.shape[0], ids.shape[0]), dtype)
    dt = detector.sample_interval
    *each, noise = planned
    for part, table, gains in zip(*each, strict=True):
        steps = jnp.arange(part.span.start, part.span.stop, dtype=jnp.uint32)
        inside = None if weights is None else jnp.swapaxes(weights[:, part.span], 0, 1)
        x, total, record, path = _advance_segment(
            seed, gains, noise, ids, table, basis, x, total, steps, inside, dt, trajectory
        )
        outputs.append(record)
        if trajectory:
            states.append(path)
        elif part.ends_stage:
            states.append(x[None])
    clipped = jnp.zeros(ids.shape[0], jnp.int32)
    result = jnp.concatenate(outputs) if total is None else total
    if technical is not None:
        result, clipped = imperfect(
            seed, result, ids, technical, detector.quadratures, detector.angle, dt
        )
    return result, jnp.concatenate(states), z, clipped


def plan_scan(
    params: Params, sequence: Sequence, detector: Detector, resolution: Resolution
) -> Planned:
    """Return the segments, their maps over the jitter's nodes, and what the receiver reads of each.

    All that does not depend on the shots.
    """
    parts = segments(params, sequence, resolution)
    tables = plan(params, parts, sequence.sample_interval, resolution, detector.model)
    return parts, tables, *readouts(params, parts, detector)


@jax.jit
def frequency_offsets(
    seed: UInt32[Array, "2"], ids: UInt32[Array, "shots"]
) -> Float[Array, "2 shots"]:
    """Return the shots' standard normal offsets of (omega_m, omega_s)."""
    return normals(seed, FREQUENCY, jnp.uint32(0), ids, 2, jnp.result_type(float))


@functools.partial(jax.jit, static_argnames=("dtype",))
def _start(seed, params, ids, dtype):
    """Return the shots' initial states."""
    spread = jnp.sqrt(jnp.diagonal(initial_covariance(params))).astype(dtype)
    return spread[:, None] * normals(seed, INITIAL, jnp.uint32(0), ids, N_STATE, dtype)


def readouts(
    params: Params, parts: tuple[Segment, ...], detector: Detector
) -> tuple[tuple[Array, ...], Array]:
    """Return readouts, (quadratures, signals) or one for each sample, and independent noise.

    A homodyne receiver whose angle is yet to wander needs both quadratures.
    """
    bare = dataclasses.replace(detector, technical=None)
    seen = [bare]
    if detector.technical is not None and detector.quadratures == ("homodyne",):
        seen = [dataclasses.replace(bare, angle=a) for a in (0.0, math.pi / 2)]
    made = ([segment_readout(params, part, d) for d in seen] for part in parts)
    return tuple(jnp.concatenate(one, axis=-2) for one in made), independent_noise(bare)


def _rows(matrix: Array, noise: Array, x: Array, xi: tuple[Array, ...], first: int) -> Array:
    """Return matrix x + noise xi, the noise's row i with no normal beyond first + i.

    `step.apply` in the form that compiles best: every row one sum, none of what is zero.
    """
    rows = []
    for i in range(matrix.shape[0]):
        total = matrix[i, 0] * x[0]
        for j in range(1, matrix.shape[1]):
            total = total + matrix[i, j] * x[j]
        for j in range(first + i + 1):
            total = total + noise[i, j] * xi[j]
        rows.append(total)
    return jnp.stack(rows)


@functools.partial(jax.jit, static_argnames=("trajectory",))
def _advance_segment(
    seed, gains, noise, ids, nodes, basis, x, total, steps, weights, dt, trajectory
):
    """Advance one segment by a scan over its samples; one that moves has a Step for each.

    The normals of a sample are drawn one turn of the loop before it, and its outputs filtered one
    turn after: what the loop carries is made once, while XLA's CPU compiler makes anything else
    anew for each sum that it enters.
    """
    dtype, n_normals = x.dtype, N_STATE + gains.shape[-2]
    moves = nodes.A.ndim == 4
    keys = pair_keys(seed, PROCESS, n_normals)

    def step_of(table: Transition, gains: Array) -> Step:
        a, q = at_offsets(table, basis)
        return make_step(a, q, gains, noise, dt, dtype)

    def filtered(total, weight, y):
        for k in range(y.shape[0]):
            total = total + weight[:, k, None].astype(dtype) * y[None, k]
        return total

    still: Step | None = None if moves else step_of(nodes, gains)

    def body(carry, inputs):
        x, xi, total, before = carry
        index, moving, weight = inputs
        step = step_of(*moving) if still is None else still
        y = _rows(step.C, step.N, x, xi, N_STATE)
        x = _rows(step.A, step.L, x, xi, 0)
        drawn = draw(keys, index + 1, ids, dtype)
        path = x if trajectory else None
        if total is None:
            return (x, drawn, None, None), (y, path)
        return (x, drawn, filtered(total, *before), (weight, y)), (None, path)

    xs = (steps, (nodes, gains) if moves else None, weights)
    nothing = None
    if weights is not None:
        nothing = jnp.zeros_like(weights[0]), jnp.zeros((gains.shape[-2], ids.shape[0]), dtype)
    start = (x, draw(keys, steps[0], ids, dtype), total, nothing)
    (x, _, total, before), (record, path) = jax.lax.scan(body, start, xs)
    if total is not None:
        assert before is not None
        total = filtered(total, *before)
    return x, total, record, path
