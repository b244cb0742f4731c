"""Exact second moments of the state without sampling, through any sequence.

Given a shot's two frequencies everything is Gaussian; the average over jitter is Gauss-Hermite
quadrature over the two offsets.  Node axes come first here.
"""

import dataclasses
import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.plan import Segment, at_offsets, jitter_basis, node_transitions, segments
from jaxsde.engine.propagate import repeat
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.step import Transition
from jaxsde.physics.model import N_STATE, initial_covariance
from jaxsde.physics.params import Params, is_concrete
from jaxsde.physics.sequence import Sequence

# Exact to 1e-6 while sigma_m t and sigma_s t stay below 1.6 and 0.8 (500 us of the paper's jitter).
NODES = (15, 9)


MAX_NODES = 81


def choose_nodes(
    params: Params,
    sequence: Sequence,
    *,
    error: float = 1e-6,
    least: tuple[int, int] = NODES,
) -> tuple[int, int]:
    """Return nodes that average products of responses over jitter to `error`, `least` at least.

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
    motion = _nodes("sigma_m", sigma_m * memory, least[0], error)
    return motion, _nodes("sigma_s", sigma_s * length, least[1], error)


def _nodes(name: str, angle: float, least: int, error: float) -> int:
    for n in range(least, MAX_NODES + 1, 2):
        if angle == 0:
            return n
        log_error = math.lgamma(n + 1) - math.lgamma(2 * n + 1) + 2 * n * math.log(2 * angle)
        if log_error < math.log(2 * error):
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


def segment_transition(
    params: Params,
    segment: Segment,
    z: Array,
    dt: float,
    resolution: Resolution,
    model: str = "adiabatic",
) -> Transition:
    """Return a segment's Transitions at standardised offsets z (2, k), without units.

    Leading axes (k,), or (samples, k) for a segment that moves.
    """
    basis = jitter_basis(jnp.asarray(z), resolution.jitter_nodes)
    return _at_nodes(node_transitions(params, segment, dt, resolution, model), basis)


@jax.jit
def _at_nodes(table: Transition, basis: Array) -> Transition:
    def at(nodes: Transition) -> Transition:
        a, q = at_offsets(nodes, basis)
        return Transition(A=jnp.moveaxis(a, -1, 0), Q=jnp.moveaxis(q, -1, 0))

    return jax.lax.map(at, table) if table.A.ndim == 4 else at(table)


def conditional_covariance(
    params: Params, sequence: Sequence, z: Float[Array, "2 k"], resolution: Resolution
) -> Float[Array, "k stages 6 6"]:
    """Return the covariance at the end of each stage for shots at standardised offsets z."""
    dt = sequence.sample_interval
    p = jnp.broadcast_to(initial_covariance(params), (z.shape[1], N_STATE, N_STATE))
    ends = []
    for part in segments(params, sequence, resolution):
        p = _segment_end(p, segment_transition(params, part, z, dt, resolution), part.n_samples)
        if part.ends_stage:
            ends.append(p)
    return jnp.stack(ends, axis=1)


@functools.partial(jax.jit, static_argnums=(2,))
def _segment_end(p: Array, step: Transition, n: int) -> Array:
    """Return the covariance after n samples."""
    step = states_alone(step)
    if step.A.ndim == 4:
        return jax.lax.scan(lambda p, s: (advance(s, p), None), p, step)[0]
    return advance(repeat(step, n), p)


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


def states_alone(step: Transition) -> Transition:
    """Return the Transition of x alone, leaving out the integrals."""
    n = N_STATE
    return Transition(A=step.A[..., :n, :n], Q=step.Q[..., :n, :n])


def advance(step: Transition, p: Array) -> Array:
    """Return A P A^T + Q."""
    return step.A @ p @ jnp.swapaxes(step.A, -1, -2) + step.Q


def state_at(
    params: Params, sequence: Sequence, stage: int, z: Float[Array, "2 k"], resolution: Resolution
) -> Float[Array, "k 6 6"]:
    """Return the covariance when stage number `stage` begins, for shots at offsets z."""
    if stage == 0:
        return jnp.broadcast_to(initial_covariance(params), (z.shape[1], N_STATE, N_STATE))
    before = dataclasses.replace(sequence, stages=sequence.stages[:stage])
    return conditional_covariance(params, before, z, resolution)[:, -1]
