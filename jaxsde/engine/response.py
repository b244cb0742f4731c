"""Exact second moments of linear filters' outputs, by the adjoint of the Steps.

Node axes of the average over jitter come first.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsde.engine.covariance import gauss_hermite, segment_transition, state_at
from jaxsde.engine.detect import Detector, independent_noise
from jaxsde.engine.plan import segment_readout, segments
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.step import Transition, matmul, output_maps
from jaxsde.physics.model import N_STATE
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence


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
    adjoint = jnp.zeros((k, N_STATE, p))
    noise = jnp.zeros((k, p, p))
    floor = independent_noise(detector)
    for segment in reversed(segments(params, sequence, resolution)):
        if segment.stage < first_stage:
            break
        part = jnp.moveaxis(weights[:, segment.span], 1, 0)
        gains = segment_readout(params, segment, detector)
        step = segment_transition(params, segment, z, dt, resolution, detector.model)
        adjoint, noise = _segment_response(adjoint, noise, part, step, gains, floor, dt)
    return jnp.swapaxes(adjoint, 1, 2), noise


@jax.jit
def _segment_response(adjoint, noise, weights, step: Transition, gains, floor, dt):
    """Return filter_response's recursion taken from the end of a segment to its beginning.

    Nodes are on the minor axis, where small products are broadcasts.
    """
    moves, k = step.A.ndim == 4, adjoint.shape[0]

    def maps(step: Transition, gains: Array):
        a, q = jnp.moveaxis(step.A, 0, -1), jnp.moveaxis(step.Q, 0, -1)
        return output_maps(a, q, gains, floor, dt)

    still = None if moves else maps(step, gains)

    def body(carry, inputs):
        adjoint, noise = carry
        weight, moving = inputs
        a, c, joint = maps(*moving) if still is None else still
        m = jnp.broadcast_to(weight.T[..., None], (*weight.T.shape, k))
        g = jnp.concatenate([adjoint, m], axis=0)
        noise = noise + matmul(jnp.swapaxes(g, 0, 1), matmul(joint, g))
        back = jnp.concatenate([a, c], axis=0)
        return (matmul(jnp.swapaxes(back, 0, 1), g), noise), None

    moving = (step, gains) if moves else None
    start = tuple(jnp.moveaxis(x, 0, -1) for x in (adjoint, noise))
    found = jax.lax.scan(body, start, (weights, moving), reverse=True)[0]
    return tuple(jnp.moveaxis(x, -1, 0) for x in found)


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


def average_filter_covariance(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    weights: Float[Array, "filters samples quadratures"],
    first_stage: int,
    nodes: tuple[int, int],
    resolution: Resolution,
) -> Float[Array, "filters filters"]:
    """Return the exact covariance of filter outputs, averaged over jitter (Gauss-Hermite)."""
    z, w = gauss_hermite(nodes)
    each = filter_covariance(params, sequence, detector, weights, first_stage, z, resolution)
    return jnp.einsum("k,kij->ij", w, each)
