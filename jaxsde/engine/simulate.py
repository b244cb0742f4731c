"""Simulate: from parameters and a sequence to shots and their records."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsde.engine.detect import Detector, check_detector, noise_variance, quadrature_gains
from jaxsde.engine.noise import FREQUENCY, INITIAL, PROCESS, normals, seed_words
from jaxsde.engine.plan import (
    Resolution,
    at_offsets,
    choose_resolution,
    interpolation_weights,
    plan,
    resolve,
    sigmas,
)
from jaxsde.engine.step import Step, Transition, apply, make_step
from jaxsde.physics.model import N_STATE, initial_covariance
from jaxsde.physics.params import Leaf, Params, check_params
from jaxsde.physics.sequence import Controls, Sequence, check_sequence

OVERFLOWED = 1

# Shots of a block come in whole vectors of a CPU (AVX-512, float32): compilers round the odd ones
# at the end of a loop differently, so that a shot would depend on its place in a block.
LANES = 16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Shots:
    """Hold simulated shots.

    record: W, or rad/s for the ideal detector.  time: middle of each sample, s.
    stage: index of each sample's stage.  omega_m, omega_s: of each shot (at rest), rad/s.
    states: x at the end of each stage.  status: 0, or 1 where a shot is not finite.
    backend, method, resolution: what ran.
    """

    record: Float[Array, "shots samples quadratures"]
    time: Float[np.ndarray, "samples"]
    stage: Int[np.ndarray, "samples"]
    omega_m: Float[Array, "shots"]
    omega_s: Float[Array, "shots"]
    states: Float[Array, "shots stages 6"]
    status: Int[Array, "shots"]
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
    backend: "auto" or "scan"; what ran is in Shots.backend.
    dtype: of the trajectories, jnp.float32 or jnp.float64; by default the widest enabled.
        Propagators and covariances always use the widest enabled.
    first_shot: index of the first shot, so that an ensemble can be made in parts.
    block_shots: shots advanced together, in whole sixteens, chosen if None; has no effect on the
        result.
    on_block: called with the number of shots done after each block.

    Raises ValueError for parameters, controls, counts or intervals that cannot be.
    """
    check_params(params)
    check_sequence(sequence)
    check_detector(detector)
    _check_run(sequence, detector, n_shots, backend, first_shot, block_shots)
    dtype = _trajectory_dtype(dtype)
    resolution = choose_resolution(params, sequence, method=method, substeps=substeps)
    seed = seed_words(key)
    block = _block(n_shots) if block_shots is None else -(-block_shots // LANES) * LANES
    nodes = plan(params, sequence, resolution)
    parts = []
    for start in range(0, n_shots, block):
        # Every block has the same shape, so that one compilation serves; the surplus is dropped.
        ids = jnp.uint32(start + first_shot) + jnp.arange(block, dtype=jnp.uint32)
        y, states, z = advance(
            seed, params, sequence, detector, ids, resolution, dtype, nodes=nodes
        )
        part = _shots_first(y, states, z, params)
        parts.append(jax.tree.map(lambda leaf: leaf[: n_shots - start], part))  # noqa: B023
        if on_block is not None:
            jax.block_until_ready(part)
            on_block(min(start + block, n_shots))
    record, states, omega = jax.tree.map(_join, *parts)
    finite = jnp.isfinite(record).all((1, 2)) & jnp.isfinite(states).all((1, 2))
    return Shots(
        record=record,
        time=sequence.time,
        stage=sequence.stage_index,
        omega_m=omega[:, 0],
        omega_s=omega[:, 1],
        states=states,
        status=jnp.where(finite, 0, OVERFLOWED),
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
def _shots_first(record, states, z, params):
    """Return record, stage-end states and frequencies with shots on the first axis."""
    rest = jnp.stack([jnp.asarray(params.omega_m), jnp.asarray(params.omega_s)])
    omega = rest[:, None] + sigmas(params)[:, None] * z
    return jnp.transpose(record, (2, 0, 1)), jnp.transpose(states, (2, 0, 1)), omega.T


def advance(
    seed: Array,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    ids: Array,
    resolution: Resolution,
    dtype: Any,
    weights: Float[Array, "filters samples quadratures"] | None = None,
    nodes: tuple[Transition, ...] | None = None,
) -> tuple[Array, Array, Array]:
    """Advance shots through every stage: the one loop of the engine, pure and differentiable.

    Returns the record (samples, quadratures, shots), or with weights the filters' outputs
    sum_t weights_t y_t (filters, shots) so that no record is kept; the states at the ends of the
    stages (stages, 6, shots); and the shots' standard normal frequency offsets (2, shots).
    nodes: the plan of params and sequence, where it is at hand.
    """
    nodes = plan(params, sequence, resolution) if nodes is None else nodes
    z, x = _start(seed, params, ids, dtype)
    jitter = interpolation_weights(z, resolution.jitter_nodes)
    outputs, states, first = [], [], 0
    total = None if weights is None else jnp.zeros((weights.shape[0], ids.shape[0]), dtype)
    for stage, table in zip(sequence.stages, nodes, strict=True):
        n = stage.n_samples
        part = None if weights is None else weights[:, first : first + n]
        controls = resolve(params, stage.controls)
        steps = jnp.arange(first, first + n, dtype=jnp.uint32)
        x, total, record = _advance_stage(
            seed, params, controls, detector, ids, table, jitter, x, total, steps, part
        )
        outputs.append(record)
        states.append(x)
        first += n
    result = jnp.concatenate(outputs) if total is None else total
    return result, jnp.stack(states), z


@functools.partial(jax.jit, static_argnames=("dtype",))
def _start(seed, params, ids, dtype):
    """Return the shots' standard normal frequency offsets and their initial states."""
    z = normals(seed, FREQUENCY, jnp.uint32(0), ids, 2, jnp.result_type(float))
    spread = jnp.sqrt(jnp.diagonal(initial_covariance(params))).astype(dtype)
    return z, spread[:, None] * normals(seed, INITIAL, jnp.uint32(0), ids, N_STATE, dtype)


@jax.jit
def _advance_stage(
    seed,
    params,
    controls: Controls,
    detector,
    ids,
    nodes: Transition,
    jitter,
    x,
    total,
    steps,
    weights,
):
    """Advance one stage by a scan over its samples; a ramp has a Step of its own for each."""
    dt, dtype = detector.sample_interval, x.dtype
    gains = quadrature_gains(params, controls, detector)
    noise = jnp.asarray(noise_variance(detector), jnp.result_type(float))
    n_normals = N_STATE + gains.shape[0]

    def step_of(table: Transition) -> Step:
        a, q = at_offsets(table, jitter)
        return make_step(a, q, gains, noise, dt, dtype)

    still: Step | None = None
    if not controls.is_ramp:
        still = step_of(nodes)

    def body(carry, inputs):
        x, total = carry
        index, node, weight = inputs
        step = still
        if step is None:
            step = step_of(node)
        xi = normals(seed, PROCESS, index, ids, n_normals, dtype)
        x, y = apply(step, x, xi)
        if total is None:
            return (x, None), y
        for k in range(y.shape[0]):
            total = total + weight[:, k, None].astype(dtype) * y[None, k]
        return (x, total), None

    per_sample: Leaf = None if weights is None else jnp.swapaxes(weights, 0, 1)
    xs = (steps, nodes if still is None else None, per_sample)
    (x, total), record = jax.lax.scan(body, (x, total), xs)
    return x, total, record
