"""Point: the loss of a calibration and what its descent needs, at one set of parameters.

The objective "likelihood".  The curvature is the information of the records by Louis' identity
(J. R. Stat. Soc. B 44, 226 (1982)): what they would hold with the frequencies of the shots known,
less what is missing since these are not,

    I = sum_i { E_i[B] - Cov_i[s] },    s the score and B the Gauss-Newton matrix at a node,

E_i and Cov_i over the nodes as shot i weighs them.  Its mean over data is the expected information.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.covariance import gauss_hermite
from jaxsde.engine.plan import jitter_basis
from jaxsde.engine.resolution import Resolution
from jaxsde.inference.devices import on_devices
from jaxsde.inference.evidence import Evidence
from jaxsde.inference.kalman import CHUNK, pushforward
from jaxsde.inference.likelihood import node_slopes, rung
from jaxsde.inference.problem import (
    Problem,
    evidence_of,
    model_at,
    prior_residuals,
)
from jaxsde.inference.tables import Tables, tabulate
from jaxsde.inference.transform import Free, Model, placed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """Hold the loss (nats, priors included) and its derivatives in u.

    information: curvature that the descent uses, and the errors.  complete: an upper bound of it,
    positive semidefinite wherever one is.  scores: derivatives of log p of each shot.
    squares, counts: sum of r^2 of each shot, and its number of samples.  offsets: expected
    standardised frequency offsets of each shot.  Both are empty for other objectives.
    """

    u: np.ndarray
    loss: float
    gradient: np.ndarray
    information: np.ndarray
    complete: np.ndarray
    scores: np.ndarray
    log_likelihoods: np.ndarray
    squares: np.ndarray
    counts: np.ndarray
    offsets: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Hold the objective "likelihood" of a problem, with its records ready for the filter."""

    problem: Problem
    evidence: tuple[tuple[tuple[Evidence, ...], Array], ...]


def make_likelihood(problem: Problem) -> Likelihood:
    """Return the objective "likelihood" of a problem."""
    evidence = tuple(evidence_of(problem, d) for d in range(len(problem.models)))
    return Likelihood(problem=problem, evidence=evidence)


@functools.partial(jax.jit, static_argnames=("resolution", "data", "active"))
def _tables_and_slopes(
    u: Float[Array, "free"],
    model: Model,
    frees: tuple[Free, ...],
    resolution: Resolution,
    data: int,
    active: tuple[int, ...],
) -> tuple[Tables, Tables]:
    """Return the tables of a data set's model at u, and their derivatives in its parameters."""
    index = np.array(active)

    def of(part):
        m = placed(model, frees, u.at[index].set(part), data)
        return tabulate(m.params, m.sequence, m.detector, resolution)

    return pushforward(of, (u[index],), (jnp.eye(len(active)),))


def nodes_of(problem: Problem, u: np.ndarray, data: int, level: int) -> tuple[int, int]:
    """Return the quadrature's nodes of a data set at a level."""
    return rung(model_at(problem, jnp.asarray(u), data).params, level)


def data_slopes(objective: Likelihood, u: np.ndarray, data: int, level: int):
    """Return log p(y | node), sum r^2, scores, matrices of all shots; z, log w; active indices."""
    problem = objective.problem
    active = tuple(i for i, f in enumerate(problem.frees) if data in f.data)
    resolution = problem.resolutions[data]
    model = problem.models[data]
    tables, slopes = _tables_and_slopes(
        jnp.asarray(u), model, problem.frees, resolution, data, active
    )
    z, w = gauss_hermite(nodes_of(problem, u, data, level))
    parts, which = objective.evidence[data]
    n, p, k = len(problem.records[data]), len(active), z.shape[1]
    found = [np.zeros((k, n)), np.zeros((k, n)), np.zeros((p, k, n)), np.zeros((p, p, k, n))]
    size = min(k, CHUNK)
    for first in range(0, k, size):
        here = np.minimum(np.arange(first, first + size), k - 1)
        basis = jitter_basis(z[:, here], resolution.jitter_nodes)
        used = min(size, k - first)
        for part in parts:
            whole, dt = (tables, slopes, basis, which), model.sequence.sample_interval
            made = on_devices(node_slopes, problem.mesh, (2, 2, 3, 4), whole, part, dt)
            shots = np.asarray(part.shots).reshape(-1)
            for into, values in zip(found, made, strict=True):
                flat = np.asarray(values).reshape(*values.shape[:-2], -1)[..., :used, :]
                into[..., first : first + used, shots] = flat
    return found, np.asarray(z), np.log(np.asarray(w)), active


def likelihood_point(objective: Likelihood, u: np.ndarray, level: int) -> Point:
    """Return the Point of the exact likelihood at u, with the nodes of a rung."""
    problem, p = objective.problem, len(u)
    missing, complete = np.zeros((p, p)), np.zeros((p, p))
    scores, each, squares, counts, offsets = [], [], [], [], []
    for data, record in enumerate(problem.records):
        (total, square, score, matrix), z, log_w, active = data_slopes(objective, u, data, level)
        joint = total + log_w[:, None]
        top = joint.max(axis=0)
        weights = np.exp(joint - top)
        norm = weights.sum(axis=0)
        each.append(top + np.log(norm))
        weights = weights / norm
        mean = np.einsum("akn,kn->na", score, weights)
        whole = np.zeros((len(record), p))
        whole[:, list(active)] = mean
        scores.append(whole)
        square_index = np.ix_(active, active)
        complete[square_index] += np.einsum("abkn,kn->ab", matrix, weights)
        products = np.einsum("akn,bkn,kn->ab", score, score, weights)
        missing[square_index] += products - mean.T @ mean
        squares.append(np.einsum("kn,kn->n", square, weights))
        counts.append(np.isfinite(record).sum(axis=(1, 2)))
        offsets.append((z @ weights).T)
    residuals, slope = prior_slopes(problem, u)
    own = slope.T @ slope
    scores_all = np.concatenate(scores)
    each_all = np.concatenate(each)
    return Point(
        u=np.asarray(u),
        loss=float(residuals @ residuals / 2 - each_all.sum()),
        gradient=slope.T @ residuals - scores_all.sum(axis=0),
        information=complete - missing + own,
        complete=complete + own,
        scores=scores_all,
        log_likelihoods=each_all,
        squares=np.concatenate(squares),
        counts=np.concatenate(counts),
        offsets=np.concatenate(offsets),
    )


def prior_slopes(problem: Problem, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the priors' residuals and their derivatives in u."""
    at = jnp.asarray(u)
    slope = jax.jacfwd(lambda u: prior_residuals(problem, u))(at)
    return np.asarray(prior_residuals(problem, at)), np.asarray(slope)
