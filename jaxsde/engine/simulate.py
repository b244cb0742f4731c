"""Simulate: from parameters and a sequence to shots and their records."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsde.engine.aliasing import aliases
from jaxsde.engine.detect import Detector, check_detector, independent_noise
from jaxsde.engine.noise import FREQUENCY, INITIAL, PROCESS, normals, seed_words
from jaxsde.engine.plan import (
    Segment,
    at_offsets,
    jitter_basis,
    plan,
    segment_readout,
    segments,
    sigmas,
)
from jaxsde.engine.resolution import TOLERANCE, Resolution, choose_resolution
from jaxsde.engine.step import Step, Transition, apply, make_step
from jaxsde.engine.technical import imperfect
from jaxsde.physics.model import N_STATE, initial_covariance
from jaxsde.physics.params import Params, check_params
from jaxsde.physics.sequence import Sequence, check_sequence

OVERFLOWED = 1

# Shots of a block come in whole vectors of a CPU, several at a time: compilers round the odd ones
# at the end of a loop differently, and unroll one of 16 in its own way, so that a shot would
# depend on its block.
LANES = 32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Shots:
    """Hold simulated shots.

    record: W, or rad/s for the ideal detector.  time: middle of each sample, s.
    stage: index of each sample's stage.  omega_m, omega_s: of each shot (at rest), rad/s.
    states: x at the end of each stage.  status: 0, or 1 where a shot is not finite.
    clipped: samples of each shot that left the digitiser's range.
    backend, method, resolution: what ran.
    """

    record: Float[Array, "shots samples quadratures"]
    time: Float[np.ndarray, "samples"]
    stage: Int[np.ndarray, "samples"]
    omega_m: Float[Array, "shots"]
    omega_s: Float[Array, "shots"]
    states: Float[Array, "shots stages 6"]
    status: Int[Array, "shots"]
    clipped: Int[Array, "shots"]
    backend: str = dataclasses.field(metadata=dict(static=True))
    method: str = dataclasses.field(metadata=dict(static=True))
    resolution: Resolution = dataclasses.field(metadata=dict(static=True))


def simulate(
    key: Array,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    n_shots: int,
    *,
    method: str = "exact",
    substeps: int = 1,
    tolerance: float = TOLERANCE,
    backend: str = "auto",
    dtype: Any = None,
    first_shot: int = 0,
    block_shots: int | None = None,
    on_block: Callable[[int], None] | None = None,
) -> Shots:
    """Simulate S6-S8 over n_shots shots with frequency jitter, and their heterodyne records.

    key: JAX random key; with the shot's index and the step it alone decides every number.
    method: "exact", "interaction_euler" or "euler_maruyama" (S6-S8 in the laboratory frame).
    substeps: Euler steps in each sample, an integer.
    tolerance: of the covariance through ramps and switches, for the exact method; the sub-steps
        it took and the error estimated for them are in Shots.resolution.
    backend: "auto" or "scan"; what ran is in Shots.backend.
    dtype: of the trajectories, jnp.float32 or jnp.float64; by default the widest enabled.
        Propagators and covariances always use the widest enabled.
    first_shot: index of the first shot, so that an ensemble can be made in parts.
    block_shots: shots advanced together, in multiples of 32, chosen if None; has no effect on
        the result.
    on_block: called with the number of shots done after each block.

    Raises ValueError for parameters, controls, counts, tolerances or intervals that cannot be.
    Warns of frequencies above half the sample rate, and where a record would show them.
    """
    check_params(params)
    check_sequence(sequence)
    check_detector(detector)
    _check_run(sequence, detector, n_shots, backend, first_shot, block_shots)
    for message in aliases(params, sequence):
        warnings.warn(message, stacklevel=2)
    dtype = _trajectory_dtype(dtype)
    resolution = choose_resolution(
        params, sequence, method=method, substeps=substeps, tolerance=tolerance
    )
    seed = seed_words(key)
    block = _block(n_shots) if block_shots is None else -(-block_shots // LANES) * LANES
    made = segments(params, sequence, resolution)
    nodes = plan(params, made, sequence.sample_interval, resolution, detector.model)
    parts = []
    for start in range(0, n_shots, block):
        # Every block has the same shape, so that one compilation serves; the surplus is dropped.
        ids = jnp.uint32(start + first_shot) + jnp.arange(block, dtype=jnp.uint32)
        y, states, z, clipped = advance(
            seed, params, sequence, detector, ids, resolution, dtype, planned=(made, nodes)
        )
        part = _shots_first(y, states, z, clipped, params)
        parts.append(jax.tree.map(lambda leaf: leaf[: n_shots - start], part))  # noqa: B023
        if on_block is not None:
            jax.block_until_ready(part)
            on_block(min(start + block, n_shots))
    record, states, omega, clipped = jax.tree.map(_join, *parts)
    finite = jnp.isfinite(record).all((1, 2)) & jnp.isfinite(states).all((1, 2))
    return Shots(
        record=record,
        time=sequence.time,
        stage=sequence.stage_index,
        omega_m=omega[:, 0],
        omega_s=omega[:, 1],
        states=states,
        status=jnp.where(finite, 0, OVERFLOWED),
        clipped=clipped,
        backend="scan",
        method=method,
        resolution=resolution,
    )


def _join(*blocks: Array) -> Array:
    return blocks[0] if len(blocks) == 1 else jnp.concatenate(blocks)


def _check_run(
    sequence: Sequence,
    detector: Detector,
    n_shots: int,
    backend: str,
    first_shot: int,
    block_shots: int | None,
) -> None:
    for name, value, least in (
        ("n_shots", n_shots, 1),
        ("block_shots", 1 if block_shots is None else block_shots, 1),
        ("first_shot", first_shot, 0),
    ):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name}: wanted an integer of at least {least}, got {value!r}")
    if first_shot + n_shots > 2**32:
        raise ValueError(f"n_shots: wanted shot indices below 2^32, got {first_shot + n_shots}")
    if backend not in ("auto", "scan"):
        raise ValueError(
            f"backend: wanted 'auto' or 'scan', got {backend!r}"
            + ("; no fused kernel is built into this version" if backend == "fused" else "")
        )
    if detector.sample_interval != sequence.sample_interval:
        raise ValueError(
            f"detector.sample_interval: wanted the sequence's {sequence.sample_interval:g} s, got "
            f"{detector.sample_interval:g} s; make both with the same sample_interval"
        )


def _trajectory_dtype(dtype: Any) -> jnp.dtype:
    widest = jnp.result_type(float)
    wanted = jnp.dtype(widest if dtype is None else dtype)
    if wanted not in (jnp.dtype("float32"), jnp.dtype("float64")):
        raise ValueError(f"dtype: wanted float32 or float64, got {wanted}")
    if wanted == jnp.dtype("float64") and widest != wanted:
        raise ValueError(
            "dtype: float64 needs jax.config.update('jax_enable_x64', True) before any array "
            "is made"
        )
    return wanted


def _block(n_shots: int) -> int:
    """Return the shots advanced together: few sizes, so that ensembles share compiled programs."""
    return 256 if n_shots <= 1024 else 2048


@jax.jit
def _shots_first(record, states, z, clipped, params):
    """Return record, stage-end states, frequencies and clipping with shots on the first axis."""
    rest = jnp.stack([jnp.asarray(params.omega_m), jnp.asarray(params.omega_s)])
    omega = rest[:, None] + sigmas(params)[:, None] * z
    return jnp.transpose(record, (2, 0, 1)), jnp.transpose(states, (2, 0, 1)), omega.T, clipped


Planned = tuple[tuple[Segment, ...], tuple[Transition, ...]]


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
) -> tuple[Array, Array, Array, Array]:
    """Advance shots through every stage: the one loop of the engine, pure and differentiable.

    Returns the record (samples, quadratures, shots), or with weights the filters' outputs
    sum_t weights_t y_t (filters, shots) so that no record is kept; the states at the ends of the
    stages (stages, 6, shots); the shots' standard normal frequency offsets (2, shots); and how
    many of their samples the digitiser clipped (shots,).
    planned: segments and their plan, where these are at hand.
    Raises ValueError for weights with a technical layer, which acts on whole records.
    """
    if planned is None:
        made = segments(params, sequence, resolution)
        planned = made, plan(params, made, sequence.sample_interval, resolution, detector.model)
    technical, bare = detector.technical, dataclasses.replace(detector, technical=None)
    if technical is not None and weights is not None:
        raise ValueError(
            "detector.technical: wanted None where filters run inside the loop, since local "
            "oscillator and digitiser act on whole records; leave it out of the model"
        )
    z, x = _start(seed, params, ids, dtype)
    basis = jitter_basis(z, resolution.jitter_nodes)
    outputs, states = [], []
    total = None if weights is None else jnp.zeros((weights.shape[0], ids.shape[0]), dtype)
    dt = detector.sample_interval
    for part, table in zip(*planned, strict=True):
        steps = jnp.arange(part.span.start, part.span.stop, dtype=jnp.uint32)
        inside = None if weights is None else jnp.swapaxes(weights[:, part.span], 0, 1)
        gains, noise = _receiver(params, part, bare, technical is not None)
        x, total, record = _advance_segment(
            seed, gains, noise, ids, table, basis, x, total, steps, inside, dt
        )
        outputs.append(record)
        if part.ends_stage:
            states.append(x)
    clipped = jnp.zeros(ids.shape[0], jnp.int32)
    result = jnp.concatenate(outputs) if total is None else total
    if technical is not None:
        result, clipped = imperfect(
            seed, result, ids, technical, detector.quadratures, detector.angle, dt
        )
    return result, jnp.stack(states), z, clipped


@functools.partial(jax.jit, static_argnames=("dtype",))
def _start(seed, params, ids, dtype):
    """Return the shots' standard normal frequency offsets and their initial states."""
    z = normals(seed, FREQUENCY, jnp.uint32(0), ids, 2, jnp.result_type(float))
    spread = jnp.sqrt(jnp.diagonal(initial_covariance(params))).astype(dtype)
    return z, spread[:, None] * normals(seed, INITIAL, jnp.uint32(0), ids, N_STATE, dtype)


def _receiver(params, part: Segment, detector: Detector, whole_field: bool) -> tuple[Array, Array]:
    """Return readout, (quadratures, signals) or one for each sample, and independent noise.

    whole_field: a homodyne receiver whose angle is yet to wander needs both quadratures.
    """
    if whole_field and detector.quadratures == ("homodyne",):
        turned = [dataclasses.replace(detector, angle=a) for a in (0.0, math.pi / 2)]
        both = [segment_readout(params, part, d) for d in turned]
        return jnp.concatenate(both, axis=-2), independent_noise(detector)
    return segment_readout(params, part, detector), independent_noise(detector)


@jax.jit
def _advance_segment(seed, gains, noise, ids, nodes, basis, x, total, steps, weights, dt):
    """Advance one segment by a scan over its samples; one that moves has a Step for each."""
    dtype, n_normals = x.dtype, N_STATE + gains.shape[-2]
    moves = nodes.A.ndim == 4

    def step_of(table: Transition, gains: Array) -> Step:
        a, q = at_offsets(table, basis)
        return make_step(a, q, gains, noise, dt, dtype)

    still: Step | None = None if moves else step_of(nodes, gains)

    def body(carry, inputs):
        x, total = carry
        index, moving, weight = inputs
        step = step_of(*moving) if still is None else still
        xi = normals(seed, PROCESS, index, ids, n_normals, dtype)
        x, y = apply(step, x, xi)
        if total is None:
            return (x, None), y
        for k in range(y.shape[0]):
            total = total + weight[:, k, None].astype(dtype) * y[None, k]
        return (x, total), None

    xs = (steps, (nodes, gains) if moves else None, weights)
    (x, total), record = jax.lax.scan(body, (x, total), xs)
    return x, total, record
