"""Innovations: what each sample told beyond its prediction from all samples before it.

With jitter the prediction is a mixture over the nodes, weighted by how well each predicted the
shot so far.  Its mean and covariance standardise the error: under the true model innovations have
mean 0, variance 1 and no correlation in time, exactly and whatever the jitter.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.covariance import gauss_hermite
from jaxsde.engine.plan import jitter_basis
from jaxsde.engine.step import Step
from jaxsde.inference.evidence import Evidence
from jaxsde.inference.kalman import condition, move_means
from jaxsde.inference.point import Likelihood, nodes_of
from jaxsde.inference.problem import model_at
from jaxsde.inference.tables import Tables, interval_of, start_root, step_fields, tabulate


@functools.partial(jax.jit, static_argnames=("dt",))
def standardised(
    tables: Tables, basis: Array, log_w: Array, which: Array, evidence: Evidence, dt: float
) -> Float[Array, "samples k patterns shots"]:
    """Return the innovations of shots, 0 where a sample is missing."""
    _, k, patterns, shots = evidence.record.shape
    nodes, n = basis.shape[1], tables.spread.shape[0]
    steps = step_fields(tables, basis, dt)

    def body(carry, inputs):
        root, mean, log_weight = carry
        at, y, seen = inputs
        step = Step(**{name: leaf[at] for name, leaf in steps.items()})
        root, update = condition(step, root, seen)
        mean, r = move_means(update, mean, y)
        size = jnp.linalg.inv(update.move[..., :k, n : n + k])
        error = size @ r
        weight = jax.nn.softmax(log_weight, axis=0)
        expected = jnp.sum(weight[:, :, None] * error, axis=0)
        apart = error - expected[None]
        spread = jnp.einsum("jps,jpas,jpbs->pabs", weight, apart, apart)
        own = jnp.einsum("jps,jpab->pabs", weight, size @ jnp.swapaxes(size, -1, -2))
        e = _whiten(jnp.moveaxis(own + spread, 0, 2), jnp.moveaxis(expected, 0, 1))
        level = jnp.sum(update.log_scale, axis=0)[..., None]
        log_weight = log_weight - level - jnp.sum(r**2, axis=2) / 2
        return (root, mean, log_weight), e

    start = (
        start_root(tables, nodes, patterns),
        jnp.zeros((nodes, patterns, n, shots)),
        jnp.broadcast_to(log_w[:, None, None], (nodes, patterns, shots)),
    )
    return jax.lax.scan(body, start, (which, evidence.record, evidence.seen))[1]


def _whiten(
    cov: Float[Array, "k k patterns shots"], error: Float[Array, "k patterns shots"]
) -> Float[Array, "k patterns shots"]:
    """Return R^-1 error for the Cholesky factor R of cov."""
    columns: list[Array] = []
    out: list[Array] = []
    for j in range(cov.shape[0]):
        rest = cov[:, j]
        for done in columns:
            rest = rest - done * done[None, j]
        columns.append(rest / jnp.sqrt(rest[j])[None])
        left = error[j]
        for i in range(j):
            left = left - columns[i][j] * out[i]
        out.append(left / columns[j][j])
    return jnp.stack(out)


def innovations(
    objective: Likelihood, u: np.ndarray, data: int, level: int
) -> Float[np.ndarray, "shots samples k"]:
    """Return the innovations of a data set's shots at u, NaN where a sample is missing."""
    problem = objective.problem
    model = model_at(problem, jnp.asarray(u), data)
    resolution = problem.resolutions[data]
    z, w = gauss_hermite(nodes_of(problem, u, data, level))
    basis = jitter_basis(z, resolution.jitter_nodes)
    tables = _tables(model, resolution)
    parts, _ = objective.evidence[data]
    which = jnp.asarray(interval_of(model.sequence, resolution))
    out = np.full(problem.records[data].shape, np.nan)
    for part in parts:
        made = standardised(tables, basis, jnp.log(w), which, part, model.sequence.sample_interval)
        out[np.asarray(part.shots)] = np.transpose(np.asarray(made), (2, 3, 0, 1))
    return np.where(np.isnan(problem.records[data]), np.nan, out)


@functools.partial(jax.jit, static_argnames=("resolution",))
def _tables(model, resolution):
    return tabulate(model.params, model.sequence, model.detector, resolution)
