"""Quasi-likelihood: the objectives "moments" and "pathwise", from second moments of features.

With S the second moments of n shots' features q (zero mean) and S_data those of the data,

    loss = n/2 [ log det S + tr S^-1 S_data ]                               all second moments,
    loss = 1/2 [ log det V + e^T V^-1 e ],  e = p_data - p,  V_ab = 2/n sum_{i in a, j in b} S_ij^2

for the powers p of groups.  S is the exact expectation ("moments") or that of simulated shots with
common random numbers ("pathwise").  Both are consistent although jitter makes q a mixture of
Gaussians; the errors are of sandwich form and allow for that.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxsde.analysis.matched import FilterBank, apply_filters
from jaxsde.engine.backends import Backend, choose_engine, prepare, run
from jaxsde.engine.covariance import choose_nodes
from jaxsde.engine.noise import seed_words
from jaxsde.engine.outputs import Asked
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.response import average_filter_covariance
from jaxsde.inference.features import Features, make_features
from jaxsde.inference.point import Point, prior_slopes
from jaxsde.inference.problem import Problem
from jaxsde.inference.transform import Free, Model, placed

# Nodes of the average over jitter: moments to 1e-4, far below their sampling error.
NODE_ERROR = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quasi:
    """Hold the objective "moments" or "pathwise" of a problem.

    features: of each data set, in units of their own scatter.  outputs: q of the data.
    seed, n_simulated: of the shots of "pathwise"; None has exact expectations.
    """

    problem: Problem
    features: tuple[Features, ...]
    outputs: tuple[np.ndarray, ...]
    nodes: tuple[tuple[int, int], ...]
    seed: Array | None
    n_simulated: int


def make_quasi(
    problem: Problem,
    *,
    features: str,
    stage: str,
    windows: int,
    key: Array | None,
    n_simulated: int,
) -> Quasi:
    """Return the objective "pathwise" if key is given, else "moments".

    Raises ValueError for features that do not suit the sequence or records with gaps.
    """
    made, outputs = [], []
    for model, record in zip(problem.models, problem.records, strict=True):
        one = make_features(features, model, stage, windows)
        q = np.asarray(apply_filters(jnp.asarray(record), one.bank))
        _check_outputs(q, one)
        scale = 1 / np.sqrt(np.mean(q**2, axis=0))
        bank = dataclasses.replace(one.bank, weights=one.bank.weights * scale[:, None, None])
        if one.groups is not None:
            # Powers are sums: their filters keep the weights that they have among each other.
            bank = dataclasses.replace(one.bank, weights=one.bank.weights * np.median(scale))
            scale = np.full_like(scale, np.median(scale))
        made.append(dataclasses.replace(one, bank=bank))
        outputs.append(q * scale)
    nodes = [
        choose_nodes(m.params, m.sequence, error=NODE_ERROR, least=(5, 5)) for m in problem.models
    ]
    return Quasi(
        problem=problem,
        features=tuple(made),
        outputs=tuple(outputs),
        nodes=tuple(nodes),
        seed=None if key is None else seed_words(key),
        n_simulated=n_simulated,
    )


def _check_outputs(q: np.ndarray, features: Features) -> None:
    if not np.all(np.isfinite(q)):
        bad = int((~np.isfinite(q)).any(axis=1).sum())
        raise ValueError(
            f"record: wanted finite samples, got NaN or infinity in {bad} shots; "
            "objective='likelihood' takes records with gaps"
        )
    if features.groups is None and q.shape[0] <= q.shape[1]:
        raise ValueError(
            f"record: wanted more shots than the {q.shape[1]} filters, got {q.shape[0]}; "
            "take more shots or fewer windows"
        )


@functools.partial(jax.jit, static_argnames=("resolution", "data", "nodes"))
def _exact_moments(
    u, model: Model, frees: tuple[Free, ...], bank: FilterBank, resolution: Resolution, data, nodes
):
    """Return S and its derivatives in u."""

    def of(u):
        m = placed(model, frees, u, data)
        s = average_filter_covariance(
            m.params, m.sequence, m.detector, bank.weights, bank.stage, nodes, resolution
        )
        return s, s

    return jax.jacfwd(of, has_aux=True)(u)


@functools.partial(jax.jit, static_argnames=("resolution", "data", "backend"))
def _simulated(
    u,
    seed,
    ids,
    model: Model,
    frees: tuple[Free, ...],
    bank: FilterBank,
    resolution: Resolution,
    data,
    backend: Backend,
):
    """Return the derivatives of S, S and the outputs of simulated shots."""

    def of(u):
        m = placed(model, frees, u, data)
        prepared = prepare(backend, m.params, m.sequence, m.detector, resolution)
        q = run(
            backend,
            prepared,
            seed,
            m.params,
            m.sequence,
            m.detector,
            ids,
            resolution,
            jnp.result_type(float),
            asked=Asked(record=False, states=False),
            weights=bank.weights,
        ).filters
        s = q.T @ q / ids.shape[0]
        return s, (s, q)

    return jax.jacfwd(of, has_aux=True)(u)


def second_moments(objective: Quasi, u: np.ndarray, data: int) -> tuple[np.ndarray, ...]:
    """Return S, its derivatives (free, filters, filters) and the outputs of simulated shots."""
    problem, bank = objective.problem, objective.features[data].bank
    args = problem.models[data], problem.frees, bank, problem.resolutions[data], data
    if objective.seed is None:
        slope, s = _exact_moments(jnp.asarray(u), *args, objective.nodes[data])
        q = np.zeros((0, s.shape[0]))
    else:
        # Every data set has shots of its own.
        ids = jnp.uint32(data * objective.n_simulated) + jnp.arange(
            objective.n_simulated, dtype=jnp.uint32
        )
        resolution, count = problem.resolutions[data], bank.weights.shape[0]
        model, dtype = problem.models[data], jnp.result_type(float)
        backend, _ = choose_engine(
            "auto", model.params, model.sequence, model.detector, resolution, dtype, count
        )
        slope, (s, q) = _simulated(jnp.asarray(u), objective.seed, ids, *args, backend)
        q = np.asarray(q)
    return np.asarray(s), np.moveaxis(np.asarray(slope), -1, 0), q


def quasi_point(objective: Quasi, u: np.ndarray, level: int = 0) -> Point:
    """Return the Point of the quasi-likelihood at u."""
    residuals, slope = prior_slopes(objective.problem, u)
    loss, gradient, information = residuals @ residuals / 2, slope.T @ residuals, slope.T @ slope
    scores = []
    for data, q in enumerate(objective.outputs):
        s, ds, _ = second_moments(objective, u, data)
        part = _loss(q, s, ds, objective.features[data].groups)
        loss, gradient, information = loss + part[0], gradient + part[1], information + part[2]
        scores.append(part[3](q))
    none = np.zeros(0)
    return Point(
        u=np.asarray(u),
        loss=float(loss),
        gradient=gradient,
        information=information,
        complete=information,
        scores=np.concatenate(scores),
        log_likelihoods=none,
        squares=none,
        counts=none,
        offsets=none,
    )


def simulation_scatter(objective: Quasi, u: np.ndarray) -> np.ndarray:
    """Return the covariance of the gradient that the noise of simulated shots gives it."""
    total = np.zeros((len(u), len(u)))
    if objective.seed is None:
        return total
    for data, q in enumerate(objective.outputs):
        s, ds, simulated = second_moments(objective, u, data)
        scores = _loss(q, s, ds, objective.features[data].groups)[3](simulated)
        total += np.atleast_2d(np.cov(scores, rowvar=False)) * len(q) ** 2 / len(simulated)
    return total


def misfit(objective: Quasi, u: np.ndarray) -> tuple[float, int]:
    """Return how far the data's second moments are from the model's, and the degrees of freedom.

    The likelihood ratio of "matched" features, chi^2 of the powers of others.
    """
    total, dof = 0.0, -len(u)
    for data, q in enumerate(objective.outputs):
        s, ds, _ = second_moments(objective, u, data)
        groups = objective.features[data].groups
        if groups is None:
            total += 2 * _loss(q, s, ds, groups)[0]
            dof += len(s) * (len(s) + 1) // 2
        else:
            mean, cov, *_ = _powers(s, ds, groups, len(q))
            e = _group(q**2, groups).mean(axis=0) - mean
            total += float(e @ np.linalg.solve(cov, e))
            dof += len(mean)
    return total, dof


def _loss(q: np.ndarray, s: np.ndarray, ds: np.ndarray, groups: Any):
    """Return (loss, gradient, information, scores of outputs) of one data set, in nats."""
    n = len(q)
    if groups is not None:
        return _power_loss(q, s, ds, groups)
    s_data = q.T @ q / n
    sign, log_det = np.linalg.slogdet(s)
    if not (sign > 0 and np.isfinite(log_det)):
        return np.inf, np.zeros(len(ds)), np.eye(len(ds)), lambda q: np.zeros((len(q), len(ds)))
    inverse = np.linalg.inv(s)
    b = inverse @ ds @ inverse
    bound = np.linalg.slogdet(s_data)[1] + len(s)
    return (
        n / 2 * (log_det + float(np.trace(inverse @ s_data)) - bound),
        n / 2 * np.einsum("aij,ji->a", b, s - s_data),
        n / 2 * np.einsum("aij,bji->ab", b, ds),
        lambda q: 0.5 * (np.einsum("ni,aij,nj->na", q, b, q) - np.einsum("aij,ji->a", b, s)),
    )


def _group(x: np.ndarray, groups: tuple[int, ...]) -> np.ndarray:
    """Return the sums over the members of each group, along the last axis."""
    index = np.array(groups)
    return np.stack([x[..., index == g].sum(axis=-1) for g in range(max(groups) + 1)], axis=-1)


def _powers(s: np.ndarray, ds: np.ndarray, groups: tuple[int, ...], n: int):
    """Return the powers' mean and covariance, and their derivatives, for n shots."""

    def both(x):
        return _group(np.swapaxes(_group(x, groups), -1, -2), groups)

    mean = _group(np.diagonal(s), groups)
    d_mean = _group(np.diagonal(ds, axis1=-2, axis2=-1), groups)
    return mean, 2 / n * both(s * s), d_mean, 4 / n * both(s[None] * ds)


def _power_loss(q: np.ndarray, s: np.ndarray, ds: np.ndarray, groups: tuple[int, ...]):
    n = len(q)
    mean, cov, d_mean, d_cov = _powers(s, ds, groups, n)
    inverse = np.linalg.inv(cov)
    e = _group(q**2, groups).mean(axis=0) - mean
    w = inverse @ e
    spread = inverse @ d_cov
    return (
        0.5 * (np.linalg.slogdet(cov)[1] + e @ w),
        -d_mean @ w
        - 0.5 * np.einsum("i,aij,j->a", w, d_cov, w)
        + 0.5 * np.einsum("aii->a", spread),
        d_mean @ inverse @ d_mean.T + 0.5 * np.einsum("aij,bji->ab", spread, spread),
        lambda q: (_group(q**2, groups) - mean) @ inverse @ d_mean.T / n,
    )
