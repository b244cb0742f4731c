"""Calibrate: parameters and their errors from records, by descent on one of three objectives."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Series
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxsde.engine.detect import Detector
from jaxsde.engine.sharding import shot_mesh
from jaxsde.inference.descent import Descent, curvature, descend
from jaxsde.inference.likelihood import RUNGS
from jaxsde.inference.point import (
    Likelihood,
    likelihood_point,
    make_likelihood,
    nodes_of,
    prior_slopes,
)
from jaxsde.inference.problem import Problem, make_problem, model_at, values_at
from jaxsde.inference.quasi import Quasi, make_quasi, misfit, quasi_point, simulation_scatter
from jaxsde.inference.starts import choose_start
from jaxsde.inference.transform import Prior, edges_of, values_of
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

OBJECTIVES = ("likelihood", "moments", "pathwise")
# Normal quantile of a two-sided 68.27 % interval.
ONE_SIGMA = 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Hold the outcome of a calibration.

    free: names of the parameters; those of one data set alone end in its name, "n_m0[1]".
    values, stderr: of the free parameters, SI; stderr includes mc_error, the part that the
    simulation's own noise adds ("pathwise").  correlation: of the estimates.
    lower, upper: ends of the 68 % interval, symmetric on the unconstrained scale (Laplace).
    params: the start with the shared free fields replaced.  loss: after each accepted step, nats;
    for matched features less its lower bound.  path: of the values.
    decrement: length of the next Newton step in standard errors.
    misfit, misfit_dof: sum of squared innovations and their number ("likelihood"), or distance of
    the features' second moments; near each other if the model holds.
    at_edge: parameters whose best value is at the edge of their range, such as 0; the errors of the
    others hold them there.
    node_error: standard errors by which more nodes of the average over jitter would move the
    estimate; nodes: that were used, of each data set.
    converged, reason: whether it did, and if not, why.
    u, covariance: estimate and its covariance on the unconstrained scales.
    problem: what was fitted, for `profile`, `goodness_of_fit` and others.
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
    reason: str = dataclasses.field(default="", metadata=dict(static=True))
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None
    u: np.ndarray | None = None
    covariance: np.ndarray | None = None
    information: np.ndarray | None = None
    at_edge: tuple[str, ...] = dataclasses.field(default=(), metadata=dict(static=True))
    node_error: float = 0.0
    nodes: tuple[tuple[int, int], ...] = dataclasses.field(default=(), metadata=dict(static=True))
    level: int = dataclasses.field(default=0, metadata=dict(static=True))
    problem: Problem | None = None


def calibrate(
    params: Params,
    data: Any,
    free: Series[str] = ("g_m", "g_s", "B_s"),
    *,
    sequence: Sequence | None = None,
    detector: Detector | None = None,
    objective: str = "likelihood",
    priors: Mapping[str, Prior] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    scan: float | None = None,
    features: str = "matched",
    stage: str = "ringdown",
    windows: int = 3,
    key: Array | None = None,
    n_simulated: int | None = None,
    max_steps: int = 60,
    tolerance: float = 0.01,
    on_step: Callable[[int, float], None] | None = None,
    devices: Series[Any] | None = None,
) -> Calibration:
    """Estimate free parameters from records, starting from params, by gradient descent.

    Clipped natural gradients (optax), then Levenberg-Marquardt steps, from exact forward-mode
    gradients.  Converged when the next step is below `tolerance` standard errors; warns if not.

    data: Shots, their record (W), a DataSet or a list of them.  sequence, detector: of the
        records, which DataSets bring with them.
    free: fields of Params, "nbar" (a factor), "detector.efficiency", "ringdown.delta_pc", ...
    objective: "likelihood" (exact), "moments" (of features) or "pathwise" (simulated; needs key).
    priors: {name: Gaussian or LogNormal} of independent calibrations.
    bounds: {name: (low, high)}, SI; a magnitude stays above zero without.
    scan: share of their start that free frequencies are searched over first; by default 0.3 with
        "likelihood".
    features, stage, windows: of "moments" and "pathwise", see inference.features.
    n_simulated: shots simulated for "pathwise"; ten for each measured one, at least 2,000.
    on_step: called with the number of the step and the loss.
    devices: that share the shots of "likelihood", such as jax.devices(), which under
        jax.distributed are those of all processes; every process then makes the same call.

    Raises ValueError for what cannot be, RuntimeError where data leave a parameter undetermined.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective: wanted one of {', '.join(OBJECTIVES)}, got {objective!r}")
    problem = make_problem(
        params,
        data,
        free,
        sequence=sequence,
        detector=detector,
        bounds=bounds,
        priors=priors,
        mesh=None if devices is None else shot_mesh(devices),
    )
    how = dict(features=features, stage=stage, windows=windows)
    made, start, evaluate, levels = _objective(problem, objective, scan, key, n_simulated, how)
    edges, tell = functools.partial(edges_of, problem.frees), on_step or (lambda *_: None)
    how_far: dict[str, Any] = dict(max_steps=max_steps, tolerance=tolerance)
    descent = descend(evaluate, levels, start, problem.names, edges, tell=tell, **how_far)
    if not descent.converged:
        said = f"calibrate: not converged: {descent.reason}; the estimate is where it stopped"
        warnings.warn(said, stacklevel=2)
    return _finish(made, descent, params, objective)


def _objective(problem: Problem, objective: str, scan, key, n_simulated, how: dict[str, Any]):
    """Return what an objective is made of, where it starts, its Points, and its levels."""
    if objective == "likelihood":
        made = make_likelihood(problem)
        start = choose_start(made, 0.3 if scan is None else scan)
        return made, start, functools.partial(likelihood_point, made), len(RUNGS)
    if objective == "pathwise" and key is None:
        raise ValueError("key: wanted a JAX random key for the pathwise objective, got none")
    key = key if objective == "pathwise" else None
    n = max(2000, 10 * problem.n_shots) if n_simulated is None else n_simulated
    quasi = make_quasi(problem, key=key, n_simulated=n, **how)
    return quasi, np.zeros(len(problem.frees)), functools.partial(quasi_point, quasi), 1


def _finish(made: Likelihood | Quasi, descent: Descent, params: Params, objective: str):
    """Assemble the errors: of likelihood the inverse information, else of sandwich form."""
    problem, point = made.problem, descent.point
    u, names = point.u, problem.names
    held = np.array([name in descent.at_edge for name in names])
    inverse = covariance_of(curvature(point), held)
    mc, n_simulated, level = np.zeros_like(inverse), 0, descent.level
    if isinstance(made, Likelihood):
        total = inverse
        distance = float(point.squares.sum()), int(point.counts.sum())
        rungs = tuple(nodes_of(problem, u, d, level) for d in range(len(problem.models)))
    else:
        _, slope = prior_slopes(problem, u)
        centred = point.scores - point.scores.mean(axis=0)
        meat = centred.T @ centred + slope.T @ slope
        mc = inverse @ simulation_scatter(made, u) @ inverse
        n_simulated = 0 if made.seed is None else made.n_simulated
        total = inverse @ meat @ inverse + mc
        distance, rungs = misfit(made, u), made.nodes
    slope = np.asarray(jax.jacfwd(lambda u: values_of(problem.frees, u))(jnp.asarray(u)))
    slope = np.diagonal(slope)
    error = np.sqrt(np.diag(total))
    ends = [values_at(problem, u + sign * ONE_SIGMA * error) for sign in (-1, 1)]
    return Calibration(
        free=names,
        objective=objective,
        start=values_at(problem, np.zeros_like(u)),
        values=values_at(problem, u),
        stderr=np.abs(slope) * error,
        mc_error=np.abs(slope) * np.sqrt(np.diag(mc)),
        correlation=total * np.sign(np.outer(slope, slope)) / np.outer(error, error),
        params=_fitted(problem, params, u),
        loss=descent.loss,
        path=np.stack([values_at(problem, one) for one in descent.path]),
        decrement=descent.decrement,
        misfit=distance[0],
        misfit_dof=distance[1],
        n_shots=problem.n_shots,
        n_simulated=n_simulated,
        converged=descent.converged,
        reason=descent.reason,
        lower=np.minimum(*ends),
        upper=np.maximum(*ends),
        u=u,
        covariance=total,
        information=point.information,
        at_edge=descent.at_edge,
        node_error=descent.level_error,
        nodes=rungs,
        level=level,
        problem=problem,
    )


def covariance_of(information: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Return the inverse of an information matrix.

    Parameters at an edge (held) have errors of their own, and none in common with the others.
    """
    out = np.diag(1 / np.diag(information))
    free = np.ix_(~held, ~held)
    out[free] = np.linalg.inv(information[free])
    return out


def _fitted(problem: Problem, params: Params, u: np.ndarray) -> Params:
    """Return the start with the shared free fields of Params at their estimates."""
    shared = [f for f in problem.frees if f.name == f.field]
    for free in shared:
        if free.paths[0][0][0] == "params":
            model = model_at(problem, jnp.asarray(u), free.data[0])
            value = float(np.asarray(getattr(model.params, free.field)))
            params = dataclasses.replace(params, **{free.field: value})
    return jax.tree.map(float, params)
