"""Starts: where a descent should begin when frequencies are free, whose loss has many minima.

A frequency that is wrong by more than about 1/(2 length of the record) leaves the phase of
every shot unrelated to the model's.  So the loss is first taken on a grid of each free frequency
(one node, no derivatives), and at the best few of every pair.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxsde.engine.plan import jitter_basis
from jaxsde.inference.devices import on_devices
from jaxsde.inference.likelihood import node_densities
from jaxsde.inference.point import Likelihood
from jaxsde.inference.problem import Problem, prior_loss
from jaxsde.inference.tables import tabulate
from jaxsde.inference.transform import FREQUENCIES, placed, u_of
from jaxsde.physics.params import TWO_PI

# Spacing of the grid in units of 1/(duration of the longest stage), and its most points.
SPACING = 0.5
MOST = 121
# Best points of each frequency that are tried together.
KEPT = 4


def choose_start(objective: Likelihood, share: float) -> np.ndarray:
    """Return the u at which the descent should begin: 0, but for the frequencies searched.

    share: of their start that is searched on both sides, within their bounds.
    Raises ValueError for a share outside 0 ... 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"scan: wanted a share of the frequency from 0 to below 1, got {share}")
    problem = objective.problem
    best = np.zeros(len(problem.frees))
    searched = [i for i, f in enumerate(problem.frees) if is_frequency(f.field)]
    if not searched or share == 0:
        return best
    kept = []
    for i in searched:
        grid = _grid(problem, i, share)
        losses = []
        for value in grid:
            u = best.copy()
            u[i] = value
            losses.append(coarse_loss(objective, u))
        order = _minima(np.array(losses))[:KEPT]
        kept.append([0.0, *grid[order]])
    found = []
    for choice in itertools.product(*kept) if len(kept) <= 3 else zip(*kept, strict=False):
        u = best.copy()
        u[searched] = choice
        found.append((coarse_loss(objective, u), tuple(u)))
    return np.array(min(found)[1])


def is_frequency(field: str) -> bool:
    """Tell whether a free parameter's field is a frequency of an oscillator."""
    return field.rpartition(".")[2] in FREQUENCIES


def _grid(problem: Problem, i: int, share: float) -> np.ndarray:
    """Return the u to look at: evenly spaced in frequency, within share and bounds."""
    free = problem.frees[i]
    model = problem.models[free.data[0]]
    longest = max(stage.n_samples for stage in model.sequence.stages)
    step = SPACING * TWO_PI / (longest * model.sequence.sample_interval)
    width = share * abs(free.start)
    count = int(min(np.ceil(2 * width / step) + 1, MOST))
    values = np.linspace(free.start - width, free.start + width, count)
    inside = values[(values > free.low) & (values < free.high)]
    return np.array([u_of(free, float(v)) for v in inside])


def _minima(losses: np.ndarray) -> np.ndarray:
    """Return the indices of the local minima, the lowest first."""
    wide = np.concatenate([[np.inf], losses, [np.inf]])
    low = np.flatnonzero((wide[1:-1] <= wide[:-2]) & (wide[1:-1] <= wide[2:]))
    return low[np.argsort(losses[low])]


def coarse_loss(objective: Likelihood, u: np.ndarray) -> float:
    """Return the loss at u for shots of the nominal frequencies (nats)."""
    problem = objective.problem
    total = float(prior_loss(problem, jnp.asarray(u)))
    for data, (parts, which) in enumerate(objective.evidence):
        resolution = problem.resolutions[data]
        model = problem.models[data]
        tables = _tables(jnp.asarray(u), model, problem.frees, resolution, data)
        basis = jitter_basis(jnp.zeros((2, 1)), resolution.jitter_nodes)
        for part in parts:
            whole, dt = (tables, basis, which), model.sequence.sample_interval
            (made,) = on_devices(node_densities, problem.mesh, (2,), whole, part, dt)
            total -= float(np.sum(made))
    return total if np.isfinite(total) else np.inf


def _model_tables(u, model, frees, resolution, data):
    m = placed(model, frees, u, data)
    return tabulate(m.params, m.sequence, m.detector, resolution)


_tables = jax.jit(_model_tables, static_argnames=("resolution", "data"))
