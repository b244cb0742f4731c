"""Descent: to the least loss, by optax first and then by Levenberg and Marquardt's method.

Far from the optimum the step is a clipped natural gradient that optax takes; near it, one of
(information + damping x complete information)^-1 gradient that must lower the loss.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax

from jaxsde.inference.point import Point

# The warm start ends once the next step is shorter than this, in standard errors.
WARM = 3.0
WARM_STEPS = 8
# Longest step on the unconstrained scales, of optax and of Levenberg-Marquardt: 35 % of a
# magnitude, and a factor e, which a parameter on its way to an edge needs.
LONGEST = 0.3
LONGEST_DAMPED = 1.0
# Change of the gradient by a more accurate level that counts as none, in standard errors.
LEVEL_ERROR = 0.05
WEAKEST = 1e-10


# A Point at u, at a level of accuracy.
Evaluate = Callable[[np.ndarray, int], Point]
# -1, 0 or 1 for each parameter: see transform.edges_of.
Edges = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Descent:
    """Hold how a descent went: its last Point, its history, and why it stopped.

    at_edge: parameters that the loss pushes to the edge of their range, where they are held.
    """

    point: Point
    level: int
    loss: np.ndarray
    path: np.ndarray
    decrement: float
    level_error: float
    at_edge: tuple[str, ...]
    converged: bool
    reason: str


def check_determined(point: Point, names: tuple[str, ...]) -> None:
    """Raise RuntimeError, naming them, where no datum tells some parameters at all."""
    matrix = point.complete
    d = np.sqrt(np.clip(np.diag(matrix), 0, None))
    if not np.all(d > 0):
        weak = [names[i] for i in np.flatnonzero(~(d > 0))]
    else:
        values, vectors = np.linalg.eigh(matrix / np.outer(d, d))
        if values[0] > WEAKEST:
            return
        weak = [names[i] for i in np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)]
    raise RuntimeError(
        f"free: these data do not determine {' and '.join(weak)}; hold at least one of them "
        "fixed, give a prior, or add data that tell them apart"
    )


def curvature(point: Point) -> np.ndarray:
    """Return the information, or where it is not positive definite the complete one.

    Far from the optimum what jitter hides may seem more than there is.
    """
    d = np.sqrt(np.diag(point.complete))
    scaled = point.information / np.outer(d, d)
    return point.information if np.linalg.eigvalsh(scaled)[0] > 1e-6 else point.complete


def inside(point: Point, edges: Edges) -> np.ndarray:
    """Tell which parameters are free to move: not at an edge that the loss pushes them to."""
    return ~(edges(point.u) * point.gradient < 0)


def step_of(point: Point, damping: float, moving: np.ndarray) -> np.ndarray:
    """Return -(H + damping complete)^-1 gradient of what moves, H the curvature."""
    index = np.ix_(moving, moving)
    matrix = (curvature(point) + damping * point.complete)[index]
    step = np.zeros_like(point.u)
    step[moving] = -np.linalg.solve(matrix, point.gradient[moving])
    return step


def decrement_of(point: Point, moving: np.ndarray) -> float:
    """Return the length of the full Newton step of what moves, in standard errors."""
    return float(np.sqrt(max(-point.gradient @ step_of(point, 0.0, moving), 0.0)))


def descend(
    evaluate: Evaluate,
    levels: int,
    start: np.ndarray,
    names: tuple[str, ...],
    edges: Edges,
    *,
    max_steps: int,
    tolerance: float,
    tell: Callable[[int, float], None],
) -> Descent:
    """Return the descent from a start to the optimum at the level that is accurate enough.

    evaluate: gives a Point at u and a level, of `levels` of rising accuracy.
    Converged when the next step is shorter than `tolerance` standard errors, and one more level
    would not move the optimum by LEVEL_ERROR.
    """
    point = evaluate(start, 0)
    if not np.isfinite(point.loss):
        raise ValueError(
            "params: the start gives no finite loss; start closer, or check the detector's scale"
        )
    check_determined(point, names)
    moving = functools.partial(inside, edges=edges)

    def far(point: Point) -> float:
        return decrement_of(point, moving(point))

    history = _warm_start(evaluate, moving, point, min(WARM_STEPS, max_steps), tell)
    point, taken = history[-1], len(history) - 1
    level, error, reason, shifts = 0, np.inf, "", []
    while True:
        point, taken, reason = damped_descent(
            evaluate, moving, point, level, history, taken, max_steps, tolerance, tell
        )
        if reason:
            break
        if level + 1 >= levels:
            error = error if level else 0.0
            break
        finer = evaluate(point.u, level + 1)
        change = finer.gradient - point.gradient
        free = moving(finer)
        change = change[free] @ np.linalg.solve(finer.complete[np.ix_(free, free)], change[free])
        error = float(np.sqrt(max(change, 0.0)))
        # Losses of other levels differ by what more nodes change at the same parameters.
        shifts.append((len(history), finer.loss - point.loss))
        point, level = finer, level + 1
        if error < LEVEL_ERROR and far(point) < max(tolerance, LEVEL_ERROR):
            # One Newton step more, at the finer level, takes its optimum too.
            last = evaluate(point.u + step_of(point, 0.0, moving(point)), level)
            if last.loss <= point.loss + 1e-9 * abs(point.loss):
                point = last
                history.append(point)
            break
    decrement = far(point)
    if not reason and decrement > max(tolerance, LEVEL_ERROR):
        reason = f"the next step is still {decrement:.2g} standard errors long"
    if not reason and levels > 1 and error > LEVEL_ERROR:
        reason = f"the average over jitter still moves the optimum by {error:.2g} standard errors"
    return Descent(
        point=point,
        level=level,
        loss=_comparable(history, shifts),
        path=np.stack([p.u for p in history]),
        decrement=decrement,
        level_error=error,
        at_edge=tuple(n for n, m in zip(names, moving(point), strict=True) if not m),
        converged=not reason,
        reason=reason,
    )


def _warm_start(
    evaluate: Evaluate,
    moving: Callable[[Point], np.ndarray],
    point: Point,
    most: int,
    tell: Callable[[int, float], None],
) -> list[Point]:
    """Return the points of optax's clipped natural gradients, while these lower the loss."""
    history = [point]
    optimiser = optax.chain(optax.clip(LONGEST), optax.sgd(1.0))
    state = optimiser.init(jnp.asarray(point.u))
    while len(history) <= most and decrement_of(point, moving(point)) > WARM:
        update, state = optimiser.update(jnp.asarray(-step_of(point, 0.1, moving(point))), state)
        trial = evaluate(np.asarray(optax.apply_updates(jnp.asarray(point.u), update)), 0)
        if not trial.loss < point.loss:
            break
        point = trial
        history.append(point)
        tell(len(history) - 1, point.loss)
    return history


def _comparable(history: list[Point], shifts: list[tuple[int, float]]) -> np.ndarray:
    """Return the losses of a descent as the last level has them."""
    loss = np.array([p.loss for p in history])
    for count, shift in shifts:
        loss[:count] += shift
    return loss


def damped_descent(
    evaluate: Evaluate,
    moving: Callable[[Point], np.ndarray],
    point: Point,
    level: int,
    history: list[Point],
    taken: int,
    max_steps: int,
    tolerance: float,
    tell: Callable[[int, float], None] = lambda number, loss: None,
) -> tuple[Point, int, str]:
    """Return the point where Levenberg-Marquardt steps end, their number, and what went wrong.

    moving: tells which parameters may move.  history: takes the accepted points.
    """
    damping = 0.01
    while decrement_of(point, moving(point)) >= tolerance:
        if taken >= max_steps:
            return point, taken, f"{max_steps} steps were not enough"
        # Each alone: one that is badly determined must not hold up the others.
        step = np.clip(step_of(point, damping, moving(point)), -LONGEST_DAMPED, LONGEST_DAMPED)
        trial = evaluate(point.u + step, level)
        taken += 1
        if np.isfinite(trial.loss) and trial.loss < point.loss:
            point, damping = trial, damping / 5
            history.append(point)
        elif damping > 1e6:
            # Rounding of the loss hides what is left to gain.
            small = decrement_of(point, moving(point)) < 10 * tolerance
            return point, taken, "" if small else "no step lowers the loss any more"
        else:
            damping = max(damping, 1e-4) * 8
        tell(taken, point.loss)
    return point, taken, ""
