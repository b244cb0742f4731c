"""Calibrate: couplings by gradient descent through the chain simulate -> filter -> moments.

Two objectives share one loss, the Gaussian quasi-likelihood of the filter outputs q (zero mean),

    loss(theta) = n/2 [ log det S(theta) + tr S(theta)^-1 S_data ],

where S(theta) is either the second-moment matrix of simulated shots with common random numbers
("pathwise") or its exact expectation ("moments").  It is consistent although jitter makes q a
mixture of Gaussians; the errors are of sandwich form and allow for that.
"""

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Sequence as Series

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxsde.analysis.matched import FilterBank, apply_filters, matched_filter
from jaxsde.engine.covariance import choose_nodes
from jaxsde.engine.detect import Detector
from jaxsde.engine.noise import seed_words
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.response import average_filter_covariance
from jaxsde.engine.scan import advance
from jaxsde.engine.simulate import Shots
from jaxsde.inference.transform import check_free, with_free
from jaxsde.physics.params import Params, check_params
from jaxsde.physics.sequence import Sequence

OBJECTIVES = ("moments", "pathwise")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Hold the outcome of a calibration.

    values, stderr: of the free parameters, SI; stderr includes mc_error, the part that the
    simulation's own noise adds ("pathwise").  correlation: of the estimates.
    params: the start with the free fields replaced.  loss: after each accepted step, less its
    lower bound.  decrement: length of the last Newton step in standard errors.
    misfit: likelihood-ratio distance of S_data from S(theta), near its dof if the model holds.
    """

    free: tuple[str, ...] = dataclasses.field(metadata=dict(static=True))
    objective: str = dataclasses.field(metadata=dict(static=True))
    start: np.ndarray
    values: np.ndarray
    stderr: np.ndarray
    mc_error: np.ndarray
    correlation: np.ndarray
    params: Params
    loss: np.ndarray
    path: np.ndarray
    decrement: float
    misfit: float
    misfit_dof: int
    n_shots: int
    n_simulated: int
    converged: bool


@dataclasses.dataclass(frozen=True)
class _Model:
    """S(u) and its derivative, and simulated outputs where there are any."""

    second_moments: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    outputs: Callable[[np.ndarray], np.ndarray] | None


def calibrate(
    params: Params,
    data: Shots | Float[Array, "shots samples quadratures"],
    free: Series[str] = ("g_m", "g_s", "B_s"),
    *,
    sequence: Sequence,
    detector: Detector,
    objective: str = "moments",
    key: Array | None = None,
    n_simulated: int | None = None,
    stage: str = "ringdown",
    windows: int = 3,
    max_steps: int = 60,
    tolerance: float = 0.01,
    on_step: Callable[[int, float], None] | None = None,
) -> Calibration:
    """Estimate free parameters from records, starting from params, by gradient descent (optax).

    Natural gradients: the gradient of the loss, by forward mode through the whole chain, is
    preconditioned with the Fisher information that the same tangents give, clipped and stepped by
    optax; a step that raises the loss is halved.  Converged when the next step is shorter
    than `tolerance` standard errors.

    data: Shots or their record, W.  free: names of Params fields.
    objective: "moments" (exact expectations) or "pathwise" (simulated shots, which needs key).
    n_simulated: shots simulated for "pathwise"; ten for each measured one, at least 2,000.
    stage, windows: where the matched filters are applied, see matched_filter.
    on_step: called with the number of the step and the loss.

    Raises ValueError for parameters, names, records or objectives that cannot be, and
    RuntimeError where the data do not determine a free parameter.
    """
    check_params(params)
    free = check_free(params, free)
    if objective not in OBJECTIVES:
        raise ValueError(f"objective: wanted one of {', '.join(OBJECTIVES)}, got {objective!r}")
    record = data.record if isinstance(data, Shots) else data
    # Local oscillator and digitiser are no part of the model that is fitted.
    detector = dataclasses.replace(detector, technical=None)
    resolution = choose_resolution(params, sequence)
    bank = matched_filter(params, sequence, detector, stage=stage, windows=windows)
    q = np.asarray(apply_filters(record, bank))
    _check_outputs(q)
    # Outputs in units of their own scatter, so that S is near one.
    scale = 1 / np.sqrt(np.mean(q**2, axis=0))
    bank = dataclasses.replace(bank, weights=bank.weights * scale[:, None, None])
    n = max(2000, 10 * q.shape[0]) if n_simulated is None else n_simulated
    model = (
        _exact(params, sequence, detector, bank, free, resolution)
        if objective == "moments"
        else _pathwise(params, sequence, detector, bank, free, resolution, key, n)
    )
    fit = _descend(model, q * scale, free, max_steps, tolerance, on_step)
    return _finish(model, fit, q * scale, params, free, objective, n, tolerance)


def _check_outputs(q: np.ndarray) -> None:
    if not np.all(np.isfinite(q)):
        bad = int((~np.isfinite(q)).any(axis=1).sum())
        raise ValueError(f"record: wanted finite samples, got NaN or infinity in {bad} shots")
    if q.shape[0] <= q.shape[1]:
        raise ValueError(
            f"record: wanted more shots than the {q.shape[1]} filters, got {q.shape[0]}; "
            "take more shots or fewer windows"
        )


def _exact(params, sequence, detector, bank, free, resolution) -> _Model:
    nodes = choose_nodes(params, sequence)

    def second_moments(u):
        slope, s = _exact_moments(u, params, sequence, detector, bank, free, resolution, nodes)
        return np.asarray(s), np.asarray(slope)

    return _Model(second_moments, None)


@functools.partial(jax.jit, static_argnames=("free", "resolution", "nodes"))
def _exact_moments(
    u, params, sequence, detector, bank: FilterBank, free, resolution: Resolution, nodes
):
    def of(u):
        p = with_free(params, free, u)
        s = average_filter_covariance(
            p, sequence, detector, bank.weights, bank.stage, nodes, resolution
        )
        return s, s

    return jax.jacfwd(of, has_aux=True)(u)


def _pathwise(params, sequence, detector, bank, free, resolution, key, n) -> _Model:
    if key is None:
        raise ValueError("key: wanted a JAX random key for the pathwise objective, got none")
    seed, ids = seed_words(key), jnp.arange(n, dtype=jnp.uint32)

    def second_moments(u):
        slope, (s, _) = _simulated(u, seed, ids, params, sequence, detector, bank, free, resolution)
        return np.asarray(s), np.asarray(slope)

    def outputs(u):
        _, (_, q) = _simulated(u, seed, ids, params, sequence, detector, bank, free, resolution)
        return np.asarray(q).T

    return _Model(second_moments, outputs)


@functools.partial(jax.jit, static_argnames=("free", "resolution"))
def _simulated(u, seed, ids, params, sequence, detector, bank: FilterBank, free, resolution):
    def of(u):
        p = with_free(params, free, u)
        dtype = jnp.result_type(float)
        q, *_ = advance(seed, p, sequence, detector, ids, resolution, dtype, weights=bank.weights)
        s = q @ q.T / ids.shape[0]
        return s, (s, q)

    return jax.jacfwd(of, has_aux=True)(u)


@dataclasses.dataclass(frozen=True)
class _Point:
    """The loss and what its descent needs at one u; per shot, less the loss's lower bound."""

    u: np.ndarray
    s: np.ndarray
    slopes: np.ndarray
    loss: float
    gradient: np.ndarray
    information: np.ndarray


def _evaluate(model: _Model, u: np.ndarray, s_data: np.ndarray) -> _Point:
    s, ds = model.second_moments(u)
    slopes = np.moveaxis(ds, -1, 0)
    sign, log_det = np.linalg.slogdet(s)
    if not (sign > 0 and np.isfinite(log_det)):
        return _Point(u, s, slopes, np.inf, np.zeros(len(u)), np.eye(len(u)))
    inverse = np.linalg.inv(s)
    b = inverse @ slopes @ inverse
    bound = np.linalg.slogdet(s_data)[1] + len(s)
    return _Point(
        u=u,
        s=s,
        slopes=slopes,
        loss=0.5 * (log_det + float(np.trace(inverse @ s_data)) - bound),
        gradient=0.5 * np.einsum("aij,ji->a", b, s - s_data),
        information=0.5 * np.einsum("aij,bji->ab", b, slopes),
    )


def _newton_step(point: _Point, free: tuple[str, ...]) -> tuple[np.ndarray, float]:
    """Return F^-1 gradient and its length squared, g^T F^-1 g; refuse a singular F."""
    d = np.sqrt(np.diag(point.information))
    normalised = point.information / np.outer(d, d) if np.all(d > 0) else np.zeros((1, 1))
    values, vectors = np.linalg.eigh(normalised)
    if not values[0] > 1e-10:
        weak = (
            [free[i] for i in np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)]
            if np.all(d > 0)
            else [free[i] for i in np.flatnonzero(~(d > 0))]
        )
        raise RuntimeError(
            f"free: these data do not determine {' and '.join(weak)}; hold at least one of them "
            "fixed, or add data that tell them apart"
        )
    step = np.linalg.solve(point.information, point.gradient)
    return step, float(point.gradient @ step)


def _descend(model, q, free, max_steps, tolerance, on_step):
    """Return the final point, the history of (loss, u) and the last decrement."""
    n, s_data = q.shape[0], q.T @ q / q.shape[0]
    optimiser = optax.chain(optax.clip_by_global_norm(0.3), optax.sgd(1.0))
    point = _evaluate(model, np.zeros(len(free)), s_data)
    if not np.isfinite(point.loss):
        raise ValueError("params: the start gives no finite second moments; start closer")
    state = optimiser.init(jnp.asarray(point.u))
    history, damping, decrement = [(n * point.loss, point.u)], 1.0, np.inf
    for number in range(1, max_steps + 1):
        step, square = _newton_step(point, free)
        decrement = float(np.sqrt(n * max(square, 0.0)))
        if decrement < tolerance or damping < 1e-3:
            break
        update, state = optimiser.update(jnp.asarray(step * damping), state)
        trial = _evaluate(
            model, np.asarray(optax.apply_updates(jnp.asarray(point.u), update)), s_data
        )
        if trial.loss < point.loss:
            point, damping = trial, min(1.0, 2 * damping)
            history.append((n * point.loss, point.u))
        else:
            damping /= 2
        if on_step is not None:
            on_step(number, n * point.loss)
    return point, history, decrement


def _finish(model, fit, q, params, free, objective, n_simulated, tolerance) -> Calibration:
    """Assemble the errors: cov = F^-1 (cov of scores) F^-1 (1/n + for simulated shots 1/n_sim)."""
    point, history, decrement = fit
    inverse = np.linalg.inv(point.information)
    s_inverse = np.linalg.inv(point.s)
    b = s_inverse @ point.slopes @ s_inverse

    def covariance_of(outputs):
        scores = 0.5 * np.einsum("ni,aij,nj->na", outputs, b, outputs)
        meat = np.atleast_2d(np.cov(scores, rowvar=False))
        return inverse @ meat @ inverse / len(outputs)

    data_cov = covariance_of(q)
    mc_cov = (
        np.zeros_like(data_cov) if model.outputs is None else covariance_of(model.outputs(point.u))
    )
    total = data_cov + mc_cov
    fitted = with_free(params, free, jnp.asarray(point.u))
    fitted = jax.tree.map(float, fitted)
    values = np.array([getattr(fitted, name) for name in free])
    error = np.sqrt(np.diag(total))
    p = q.shape[1]
    return Calibration(
        free=free,
        objective=objective,
        start=np.array([float(np.asarray(getattr(params, name))) for name in free]),
        values=values,
        stderr=np.abs(values) * error,
        mc_error=np.abs(values) * np.sqrt(np.diag(mc_cov)),
        correlation=total / np.outer(error, error),
        params=fitted,
        loss=np.array([loss for loss, _ in history]),
        path=np.stack([np.exp(u) for _, u in history])
        * np.array([float(np.asarray(getattr(params, name))) for name in free]),
        decrement=decrement,
        misfit=2 * q.shape[0] * point.loss,
        misfit_dof=p * (p + 1) // 2 - len(free),
        n_shots=q.shape[0],
        n_simulated=0 if model.outputs is None else n_simulated,
        converged=bool(decrement < tolerance),
    )
