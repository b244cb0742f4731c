"""Likelihood: the exact probability of whole records, with jitter marginalised by quadrature.

Given its two frequencies a shot's record is Gaussian, and a Kalman filter on the Steps of the
engine gives its density from one innovation a sample.  The average over the frequencies is
Gauss-Hermite quadrature over the two standardised offsets, with nodes shared by all shots:

    log p(y) = log sum_j w_j exp l_j(y),   l_j = -1/2 sum_t [r_t^2 + log(2 pi R_t^2)] at node j.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.covariance import gauss_hermite
from jaxsde.engine.detect import Detector, check_detector
from jaxsde.engine.plan import jitter_basis
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.simulate import Shots
from jaxsde.engine.step import Step
from jaxsde.inference.adjoint import adjoint_densities
from jaxsde.inference.evidence import Evidence, arrange, check_record
from jaxsde.inference.kalman import (
    condition,
    join_nodes,
    level,
    move_means,
    pushforward,
    split_nodes,
)
from jaxsde.inference.tables import Tables, interval_of, start_root, step_fields, tabulate
from jaxsde.physics.params import Params, check_params, is_concrete
from jaxsde.physics.sequence import Sequence, check_sequence


@functools.partial(jax.jit, static_argnames=("dt",))
def node_densities(
    tables: Tables, basis: Array, which: Array, evidence: Evidence, dt: float
) -> Float[Array, "nodes patterns shots"]:
    """Return log p(y | offsets) of every shot at every node of the quadrature."""
    _, _, patterns, shots = evidence.record.shape

    def chunk(basis):
        steps = step_fields(tables, basis, dt)
        nodes = basis.shape[1]

        @jax.checkpoint
        def body(carry, inputs):
            root, mean, total = carry
            at, y, seen = inputs
            step = Step(**{name: leaf[at] for name, leaf in steps.items()})
            root, update = condition(step, root, seen)
            mean, r = move_means(update, mean, y)
            total = total + level(update, seen)[..., None] - jnp.sum(r**2, axis=2) / 2
            return (root, mean, total), None

        means = jnp.zeros((nodes, patterns, tables.spread.shape[0], shots))
        start = start_root(tables, nodes, patterns), means, jnp.zeros((nodes, patterns, shots))
        xs = which, evidence.record, evidence.seen
        return jax.lax.scan(body, start, xs)[0][2]

    return _over_nodes(jax.checkpoint(chunk), basis, 0)


def _over_nodes(chunk, basis: Array, axis: int):
    """Return chunk's results at all nodes, a few nodes at a time, with the nodes along `axis`."""
    return join_nodes(jax.lax.map(chunk, split_nodes(basis)), basis.shape[1], axis)


@functools.partial(jax.jit, static_argnames=("dt",))
def node_slopes(
    tables: Tables, slopes: Tables, basis: Array, which: Array, evidence: Evidence, dt: float
):
    """Return log p(y | offsets) at every node, sum r^2, derivatives, and a Gauss-Newton matrix.

    slopes: derivatives of the tables, with parameters first.  The matrix is
    sum_t [dr_a dr_b + dlogR_a dlogR_b], whose mean over data is the Fisher information.
    """
    _, _, patterns, shots = evidence.record.shape
    p = slopes.noise.shape[0]

    def chunk(basis):
        nodes = basis.shape[1]
        shape = nodes, patterns, shots
        steps, d_steps = pushforward(lambda t: step_fields(t, basis, dt), (tables,), (slopes,))
        root, d_root = pushforward(lambda t: start_root(t, nodes, patterns), (tables,), (slopes,))
        # distinct intervals first, then parameters
        d_steps = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), d_steps)

        def body(carry, inputs):
            (root, mean), d_state, scale, square, score, matrix = carry
            at, y, seen = inputs
            step, d_step = (jax.tree.map(lambda leaf: leaf[at], s) for s in (steps, d_steps))

            def advance(step, root, mean):
                root, update = condition(Step(**step), root, seen)
                mean, r = move_means(update, mean, y)
                return (root, mean), (r, update)

            (state, (r, update)), (d_state, (d_r, d_update)) = pushforward(
                advance, (step, root, mean), (d_step, *d_state)
            )
            scale = scale + level(update, seen)[..., None]
            square = square + jnp.sum(r**2, axis=2)
            d_level = d_update.log_scale
            score = score - jnp.sum(r[None] * d_r, axis=3) - jnp.sum(d_level, axis=1)[..., None]
            own = jnp.sum(d_level[:, None] * d_level[None], axis=2)[..., None]
            cross = jnp.sum(d_r[:, None] * d_r[None], axis=4)
            return (state, d_state, scale, square, score, matrix + cross + own), None

        means = jnp.zeros((nodes, patterns, tables.spread.shape[0], shots))
        d_means = jnp.zeros((p, *means.shape))
        sums = (jnp.zeros(shape), jnp.zeros(shape))
        sums += (jnp.zeros((p, *shape)), jnp.zeros((p, p, *shape)))
        xs = which, evidence.record, evidence.seen
        carry = ((root, means), (d_root, d_means), *sums)
        *_, scale, square, score, matrix = jax.lax.scan(body, carry, xs)[0]
        total = scale - square / 2
        flat = [x.reshape(-1, *shape) for x in (total, square, score, matrix)]
        return jnp.concatenate(flat)

    made = _over_nodes(chunk, basis, 1)
    matrix = made[2 + p :].reshape(p, p, *made.shape[1:])
    return made[0], made[1], made[2 : 2 + p], matrix


# --- the likelihood -------------------------------------------------------------------------------

# Covariances through ramps are right to this, which a likelihood cannot tell from exact.
TOLERANCE = 1e-6
# Numbers of nodes tried for each frequency that jitters, until more change nothing.
RUNGS = (3, 5, 7, 9, 13, 19, 27)
# Largest change of a log-likelihood (nats) by more nodes that counts as none.
NODE_ERROR = 0.01


def rung(params: Params, number: int) -> tuple[int, int]:
    """Return the nodes of a rung: RUNGS[number] for each frequency that jitters, else one."""
    n = RUNGS[number]
    sigmas = (float(np.asarray(s)) for s in (params.sigma_m, params.sigma_s))
    sigma_m, sigma_s = sigmas
    return (n if sigma_m > 0 else 1), (n if sigma_s > 0 else 1)


def shot_log_likelihoods(
    params: Params,
    record: Any,
    *,
    sequence: Sequence,
    detector: Detector,
    nodes: tuple[int, int],
    resolution: Resolution,
) -> Float[Array, "shots"]:
    """Return log p(y) of every shot, averaged over jitter with the nodes given."""
    detector = dataclasses.replace(detector, technical=None)
    record = check_record(record, sequence, detector)
    z, w = gauss_hermite(nodes)
    basis = jitter_basis(z, resolution.jitter_nodes)
    tables = tabulate(params, sequence, detector, resolution)
    which = jnp.asarray(interval_of(sequence, resolution))
    out = jnp.zeros(len(record))
    for part in arrange(record):
        each = adjoint_densities(tables, basis, which, part, sequence.sample_interval)
        mixed = jax.nn.logsumexp(each + jnp.log(w)[:, None, None], axis=0)
        out = out.at[part.shots].set(mixed)
    return out


def log_likelihood(
    params: Params,
    data: Shots | Any,
    *,
    sequence: Sequence,
    detector: Detector,
    nodes: tuple[int, int] | None = None,
    resolution: Resolution | None = None,
) -> Float[Array, ""]:
    """Return the exact log-likelihood of whole records, jitter marginalised (nats).

    log p = sum_shots log sum_j w_j prod_t N(y_t; C x_t, R_t R_t^T): a square-root Kalman filter on
    the Steps of S6-S10 at each node of Gauss-Hermite quadrature over the two frequency offsets.
    data: Shots or their record (shots, samples, outputs), W; a sample that is NaN is missing.
    sequence, detector: as the records were made; a technical layer is no part of the model.
    nodes: of the quadrature for (omega_m, omega_s); by default as many as change the result by
        less than 0.01.  Needed under a JAX transformation, as is resolution.
    Differentiable in params, sequence and detector by reverse mode, see inference.adjoint.
    Raises ValueError for records that do not fit, and RuntimeError where no nodes suffice.
    """
    check_params(params)
    check_sequence(sequence)
    check_detector(detector)
    record = data.record if isinstance(data, Shots) else data
    if resolution is None:
        resolution = choose_resolution(params, sequence, tolerance=TOLERANCE)
    of = functools.partial(
        shot_log_likelihoods,
        params,
        record,
        sequence=sequence,
        detector=detector,
        resolution=resolution,
    )
    if nodes is not None:
        return jnp.sum(of(nodes=nodes))
    if not all(is_concrete(leaf) for leaf in jax.tree.leaves((params, sequence, detector))):
        raise ValueError(
            "nodes: params are traced by a JAX transformation, so that they cannot be chosen; "
            "pass nodes=(n_m, n_s), such as (7, 7)"
        )
    before = jnp.sum(of(nodes=rung(params, 0)))
    if rung(params, 0) == (1, 1):
        return before
    change = np.inf
    for number in range(1, len(RUNGS)):
        now = jnp.sum(of(nodes=rung(params, number)))
        change = abs(float(now - before))
        if change < NODE_ERROR:
            return now
        before = now
    raise RuntimeError(
        f"nodes: wanted the average over jitter to {NODE_ERROR} nats, got {change:.2g} with "
        f"{RUNGS[-1]} nodes for each frequency; shorten the records, or pass nodes=(n_m, n_s)"
    )
