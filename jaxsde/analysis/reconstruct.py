"""Beat: <D^2>(t) of the free evolution of an estimated two-mode state (Fig. 4c)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.moments import (
    COLUMNS,
    ROWS,
    exchange_correlation,
    occupations,
    pair_correlation,
    symmetric,
)
from jaxsde.engine.covariance import (
    advance,
    choose_nodes,
    gauss_hermite,
    segment_transition,
    state_at,
    states_alone,
)
from jaxsde.engine.plan import segments
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.step import Transition
from jaxsde.physics.model import N_STATE, measured
from jaxsde.physics.params import Leaf, Params
from jaxsde.physics.sequence import Sequence


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BeatMap:
    """Hold the linear map from C at the start of a stage to <D^2> at its samples' ends.

    <D^2>(t) = weights(t) . upper triangle of C + noise(t), (rad/s)^2.  time: s.
    """

    time: Float[np.ndarray, "samples"]
    weights: Float[Array, "samples 10"]
    noise: Float[Array, "samples"]


def beat_map(
    params: Params,
    sequence: Sequence,
    stage: str,
    *,
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> BeatMap:
    """Return the map from C to the expected <D^2>(t) in a stage that stands still.

    With c_t = d A_t ... A_1 for given frequencies, <D^2> = E[c_t P c_t^T] + E[noise], E over
    jitter; thermal noise, back-action and diffusion enter through the noise.
    """
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    nodes = choose_nodes(params, sequence) if nodes is None else nodes
    span = sequence.span(stage)
    index = [s.name for s in sequence.stages].index(stage)
    if sequence.stages[index].controls.is_ramp:
        raise ValueError(
            f"stage {stage!r}: wanted constant controls for free evolution, got a ramp"
        )
    z, w = gauss_hermite(nodes)
    # The cavity's own state at the start is not part of C: it comes from theory.
    start = state_at(params, sequence, index, z, resolution).at[:, :4, :4].set(0.0)
    row, dt = measured(params), sequence.sample_interval
    carry = jnp.broadcast_to(jnp.eye(N_STATE), start.shape), start
    made = []
    for part in segments(params, sequence, resolution):
        if part.stage == index:
            step = states_alone(segment_transition(params, part, z, dt, resolution))
            carry, found = _beat(carry, step, w, row, part.n_samples)
            made.append(found)
    weights, noise = (jnp.concatenate(found) for found in zip(*made, strict=True))
    time = (np.arange(span.start, span.stop) + 1) * dt
    return BeatMap(time=time, weights=weights, noise=noise)


@functools.partial(jax.jit, static_argnums=(4,))
def _beat(carry, step: Transition, w: Array, row: Array, n: int):
    """Take (response to the state at the start, covariance that is not C's) through a segment."""
    moves = step.A.ndim == 4

    def body(carry, moving):
        response, p = carry
        now = moving if moves else step
        response, p = now.A @ response, advance(now, p)
        x = jnp.einsum("i,kij->kj", row, response)[:, :4]
        outer = jnp.einsum("k,ki,kj->ij", w, x, x)
        doubled = outer[ROWS, COLUMNS] * np.where(ROWS == COLUMNS, 1.0, 2.0)
        return (response, p), (doubled, jnp.einsum("k,i,kij,j->", w, row, p, row))

    return jax.lax.scan(body, carry, step if moves else None, length=n)


def beat(
    beat_map: BeatMap, c: Float[Array, "4 4"], c_cov: Float[Array, "10 10"]
) -> tuple[Float[Array, "samples"], Float[Array, "samples"]]:
    """Return <D^2>(t) of an estimated C and its standard error, (rad/s)^2."""
    mean = beat_map.weights @ c[ROWS, COLUMNS] + beat_map.noise
    variance = jnp.einsum("ti,ij,tj->t", beat_map.weights, c_cov, beat_map.weights)
    return mean, jnp.sqrt(jnp.maximum(variance, 0.0))


def maximal_beat(
    beat_map: BeatMap, c: Float[Array, "4 4"], c_cov: Float[Array, "10 10"], epsilon: Leaf
) -> tuple[Float[Array, "samples"], Float[Array, "samples"]]:
    """Return <D^2>(t) of the maximally correlated state of an estimated C, and its error.

    The errors are those of C, to first order through maximally_correlated.
    """

    def extreme(upper):
        return maximally_correlated(symmetric(upper), epsilon)[ROWS, COLUMNS]

    upper = c[ROWS, COLUMNS]
    slope = jax.jacfwd(extreme)(upper)
    return beat(beat_map, symmetric(extreme(upper)), slope @ c_cov @ slope.T)


def maximally_correlated(c: Float[Array, "4 4"], epsilon: Leaf) -> Float[Array, "4 4"]:
    """Return the state with the occupations of C and the largest resonant correlation.

    Its phase is that of C.  For a negative mass that is <a b>, |<a b>|^2 <= min(n_m (n_s + 1),
    n_s (n_m + 1)); for a positive mass <a^dag b>, |<a^dag b>|^2 <= n_m n_s: the bounds that
    uncertainty sets.
    """
    n_m, n_s = (jnp.maximum(n, 0.0) for n in occupations(c))
    negative = jnp.asarray(epsilon) < 0
    bound = jnp.where(negative, jnp.minimum(n_m * (n_s + 1), n_s * (n_m + 1)), n_m * n_s)
    angle = jnp.where(negative, jnp.angle(pair_correlation(c)), jnp.angle(exchange_correlation(c)))
    sign = jnp.where(negative, 1.0, -1.0)
    re, im = (2 * jnp.sqrt(bound) * part for part in (jnp.cos(angle), jnp.sin(angle)))
    cross = jnp.stack([jnp.stack([re, im]), jnp.stack([sign * im, -sign * re])])
    m, s = (2 * n_m + 1) * jnp.eye(2), (2 * n_s + 1) * jnp.eye(2)
    return jnp.block([[m, cross], [cross.T, s]])
