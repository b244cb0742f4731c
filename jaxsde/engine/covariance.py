"""Exact second moments without sampling: states, linear filters' outputs, and the record of D.

Given a shot's two frequencies everything is Gaussian; the average over jitter is Gauss-Hermite
quadrature over the two offsets.  Node axes come first here.
"""

import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.detect import Detector, noise_variance, quadrature_gains
from jaxsde.engine.plan import (
    Resolution,
    at_offsets,
    choose_resolution,
    interpolation_weights,
    node_transitions,
)
from jaxsde.engine.propagate import repeat
from jaxsde.engine.step import Transition, output_maps
from jaxsde.physics.model import initial_covariance, measured
from jaxsde.physics.params import Params, is_concrete
from jaxsde.physics.sequence import Sequence, Stage

# Exact to 1e-6 while sigma_m t and sigma_s t stay below 1.6 and 0.8 (500 us of the paper's jitter).
NODES = (15, 9)


MAX_NODES = 81


def choose_nodes(params: Params, sequence: Sequence) -> tuple[int, int]:
    """Return nodes that average products of responses over jitter to 1e-6, NODES at least.

    The rule of n nodes errs by n! a^(2n)/(2n)! on cos(a z); a = 2 sigma t, t the whole sequence
    or, for the motion, 6/Gamma_m if that is shorter.  Traced params get NODES.
    Warns where MAX_NODES would not do.
    """
    leaves = (params.sigma_m, params.sigma_s, params.gamma_m)
    if not all(is_concrete(leaf) for leaf in leaves):
        return NODES
    sigma_m, sigma_s, gamma = (float(np.asarray(leaf)) for leaf in leaves)
    length = sequence.n_samples * sequence.sample_interval
    memory = min(length, 6 / gamma) if gamma > 0 else length
    motion = _nodes("sigma_m", sigma_m * memory, NODES[0])
    return motion, _nodes("sigma_s", sigma_s * length, NODES[1])


def _nodes(name: str, angle: float, least: int) -> int:
    for n in range(least, MAX_NODES + 1, 2):
        if angle == 0:
            return n
        log_error = math.lgamma(n + 1) - math.lgamma(2 * n + 1) + 2 * n * math.log(2 * angle)
        if log_error < math.log(2e-6):
            return n
    warnings.warn(
        f"params.{name}: wanted {name} x time of at most 4.9 rad for an exact average over jitter, "
        f"got {angle:.3g} rad; theory is approximate beyond, shorten the sequence",
        stacklevel=4,
    )
    return MAX_NODES


def gauss_hermite(nodes: tuple[int, int] = NODES) -> tuple[Array, Array]:
    """Return standardised offsets (2, k) and weights (k,) of the two independent normals."""
    z_m, w_m = np.polynomial.hermite_e.hermegauss(nodes[0])
    z_s, w_s = np.polynomial.hermite_e.hermegauss(nodes[1])
    z = np.stack(np.meshgrid(z_m, z_s, indexing="ij")).reshape(2, -1)
    w = np.outer(w_m, w_s).reshape(-1)
    return jnp.asarray(z), jnp.asarray(w / w.sum())


def stage_transition(
    params: Params, stage: Stage, z: Array, dt: float, resolution: Resolution
) -> Transition:
    """Return a stage's Transitions at standardised offsets z (2, k), without units.

    Leading axes (k,), or (samples, k) for a ramp.
    """
    weights = interpolation_weights(jnp.asarray(z), resolution.jitter_nodes)
    return _at_nodes(node_transitions(params, stage, dt, resolution), weights)


@jax.jit
def _at_nodes(table: Transition, weights: Array) -> Transition:
    def at(nodes: Transition) -> Transition:
        a, q = at_offsets(nodes, weights)
        return Transition(A=jnp.moveaxis(a, -1, 0), Q=jnp.moveaxis(q, -1, 0))

    return jax.lax.map(at, table) if table.A.ndim == 4 else at(table)


def conditional_covariance(
    params: Params, sequence: Sequence, z: Float[Array, "2 k"], resolution: Resolution
) -> Float[Array, "k stages 6 6"]:
    """Return the covariance at the end of each stage for shots at standardised offsets z."""
    dt = sequence.sample_interval
    p = jnp.broadcast_to(initial_covariance(params), (z.shape[1], 6, 6))
    ends = []
    for stage in sequence.stages:
        p = _stage_end(p, stage_transition(params, stage, z, dt, resolution), stage.n_samples)
        ends.append(p)
    return jnp.stack(ends, axis=1)


@functools.partial(jax.jit, static_argnums=(2,))
def _stage_end(p: Array, step: Transition, n: int) -> Array:
    """Return the covariance after n samples of a stage."""
    step = _states(step)
    if step.A.ndim == 4:
        return jax.lax.scan(lambda p, s: (_advance(s, p), None), p, step)[0]
    return _advance(repeat(step, n), p)


def covariance(
    params: Params,
    sequence: Sequence,
    *,
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> Float[Array, "stages 6 6"]:
    """Return the exact symmetrised covariance at the end of each stage, averaged over jitter.

    dP/dt = M P + P M^T + B B^T (S6-S8), by the same Transitions that move the shots.
    resolution, nodes (of the quadrature): needed under a JAX transformation; else chosen.
    """
    nodes = choose_nodes(params, sequence) if nodes is None else nodes
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    z, w = gauss_hermite(nodes)
    return jnp.einsum("k,ksij->sij", w, conditional_covariance(params, sequence, z, resolution))


def _states(step: Transition) -> Transition:
    """Return the Transition of x alone, leaving out the integral of D."""
    return Transition(A=step.A[..., :-1, :-1], Q=step.Q[..., :-1, :-1])


def _advance(step: Transition, p: Array) -> Array:
    return step.A @ p @ jnp.swapaxes(step.A, -1, -2) + step.Q


def filter_response(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    weights: Float[Array, "filters samples quadratures"],
    first_stage: int,
    z: Float[Array, "2 k"],
    resolution: Resolution,
) -> tuple[Float[Array, "k filters 6"], Float[Array, "k filters filters"]]:
    """Return (H, N): outputs q = sum_t weights_t y_t have q = H x + noise of covariance N.

    x is the state when stage first_stage begins; weights are zero before.  Runs the Steps
    backwards: with g_t = (Lambda_t, m_t) the adjoint of (x', y),
    N += g^T cov(noise) g,  Lambda <- A^T Lambda + C^T m.
    """
    dt, k, p = detector.sample_interval, z.shape[1], weights.shape[0]
    adjoint = jnp.zeros((k, 6, p))
    noise = jnp.zeros((k, p, p))
    floor = jnp.asarray(noise_variance(detector), jnp.result_type(float))
    last = weights.shape[1]
    for stage in reversed(sequence.stages[first_stage:]):
        part = jnp.moveaxis(weights[:, last - stage.n_samples : last], 1, 0)
        last -= stage.n_samples
        gains = quadrature_gains(params, stage.controls, detector)
        step = stage_transition(params, stage, z, dt, resolution)
        adjoint, noise = _stage_response(adjoint, noise, part, step, gains, floor, dt)
    return jnp.swapaxes(adjoint, 1, 2), noise


@jax.jit
def _stage_response(adjoint, noise, weights, step: Transition, gains, floor, dt):
    """Return filter_response's recursion taken from the end of a stage to its beginning."""
    is_ramp, k = step.A.ndim == 4, adjoint.shape[0]

    def maps(step: Transition):
        a, q = jnp.moveaxis(step.A, 0, -1), jnp.moveaxis(step.Q, 0, -1)
        return tuple(jnp.moveaxis(m, -1, 0) for m in output_maps(a, q, gains, floor, dt))

    still = None if is_ramp else maps(step)

    def body(carry, inputs):
        adjoint, noise = carry
        weight, moving = inputs
        a, c, joint = maps(moving) if still is None else still
        m = jnp.broadcast_to(weight.T, (k, *weight.T.shape))
        g = jnp.concatenate([adjoint, m], axis=1)
        noise = noise + jnp.swapaxes(g, 1, 2) @ (joint @ g)
        adjoint = jnp.swapaxes(a, 1, 2) @ adjoint + jnp.swapaxes(c, 1, 2) @ m
        return (adjoint, noise), None

    moving = step if is_ramp else None
    return jax.lax.scan(body, (adjoint, noise), (weights, moving), reverse=True)[0]


def filter_covariance(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    weights: Float[Array, "filters samples quadratures"],
    first_stage: int,
    z: Float[Array, "2 k"],
    resolution: Resolution,
) -> Float[Array, "k filters filters"]:
    """Return the exact covariance of filter outputs for shots at standardised offsets z."""
    h, noise = filter_response(params, sequence, detector, weights, first_stage, z, resolution)
    start = state_at(params, sequence, first_stage, z, resolution)
    return h @ start @ jnp.swapaxes(h, 1, 2) + noise


def state_at(
    params: Params, sequence: Sequence, stage: int, z: Float[Array, "2 k"], resolution: Resolution
) -> Float[Array, "k 6 6"]:
    """Return the covariance when stage number `stage` begins, for shots at offsets z."""
    if stage == 0:
        return jnp.broadcast_to(initial_covariance(params), (z.shape[1], 6, 6))
    before = Sequence(stages=sequence.stages[:stage], sample_interval=sequence.sample_interval)
    return conditional_covariance(params, before, z, resolution)[:, -1]


def displacement_covariance(
    params: Params, sequence: Sequence, resolution: Resolution, nodes: tuple[int, int] = (9, 7)
) -> tuple[Float[Array, "samples samples"], Float[Array, "samples"]]:
    """Return the covariance of the box-averaged D of every two samples, and <D^2> at sample ends.

    Both in (rad/s)^2 and averaged over jitter.  For s < t, R_ts = c A_{t-1} ... A_{s+1} K_s with
    K_s = A P_s c^T + cov(noise of x, noise of y).
    """
    z, w = gauss_hermite(nodes)
    k, t_all, dt = z.shape[1], sequence.n_samples, sequence.sample_interval
    row = measured(params)
    p = jnp.broadcast_to(initial_covariance(params), (k, 6, 6))
    ahead = jnp.zeros((k, 6, t_all))
    rows, squares, first = [], [], 0
    for stage in sequence.stages:
        step = stage_transition(params, stage, z, dt, resolution)
        index = jnp.arange(first, first + stage.n_samples)
        p, ahead, lines, square = _stage_displacement(p, ahead, index, step, w, row, dt)
        rows.append(lines)
        squares.append(square)
        first += stage.n_samples
    lower = jnp.concatenate(rows)
    # Rows hold s <= t: later columns were still zero when a row was read.
    return lower + jnp.tril(lower, -1).T, jnp.concatenate(squares)


@jax.jit
def _stage_displacement(p, ahead, index, step: Transition, w, row, dt):
    """Return displacement_covariance's recursion taken through one stage, with its rows."""
    is_ramp = step.A.ndim == 4

    def body(carry, inputs):
        p, ahead = carry
        t, moving = inputs
        now = moving if is_ramp else step
        a, c = now.A[:, :6, :6], now.A[:, 6:, :6] / dt
        line = jnp.einsum("k,kit->it", w, c @ ahead)[0]
        pc = p @ jnp.swapaxes(c, 1, 2)
        own = jnp.einsum("k,kij->ij", w, c @ pc)[0, 0] + w @ now.Q[:, 6, 6] / dt**2
        column = a @ pc + now.Q[:, :6, 6:] / dt
        ahead = jax.lax.dynamic_update_slice(a @ ahead, column, (0, 0, t))
        p = _advance(_states(now), p)
        square = jnp.einsum("k,i,kij,j->", w, row, p, row)
        return (p, ahead), (line.at[t].set(own), square)

    (p, ahead), (lines, square) = jax.lax.scan(body, (p, ahead), (index, step if is_ramp else None))
    return p, ahead, lines, square
