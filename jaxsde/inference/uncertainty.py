"""Uncertainty: information matrices, bounds and intervals, all from one likelihood.

Matrices of information are in the parameters' own units, 1/(SI^2), unless they say otherwise.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsde.inference.calibrate import Calibration
from jaxsde.inference.descent import damped_descent, inside
from jaxsde.inference.point import Point, likelihood_point, make_likelihood
from jaxsde.inference.problem import Problem, values_at
from jaxsde.inference.transform import edges_of, values_of

# Step of the differences of exact gradients, in standard errors.
DIFFERENCE = 0.05
# A profile's ends are found to this, in units of the square root of twice the loss.
PROFILE_ERROR = 0.02
PROFILE_STEPS = 8


def problem_of(fit: Calibration) -> tuple[Problem, np.ndarray]:
    """Return what a calibration by likelihood was about, and its estimate.

    Raises ValueError for one by another objective.
    """
    if fit.objective != "likelihood" or fit.problem is None or fit.u is None:
        raise ValueError(
            f"fit: wanted a calibration with objective='likelihood', got {fit.objective!r}"
        )
    return fit.problem, np.asarray(fit.u)


def slopes_of(problem: Problem, u: np.ndarray) -> Float[np.ndarray, "free"]:
    """Return the derivative of each free parameter's value along its own u."""
    slope = jax.jacfwd(lambda u: values_of(problem.frees, u))(jnp.asarray(u))
    return np.diagonal(np.asarray(slope))


def observed_information(fit: Calibration) -> Float[np.ndarray, "free free"]:
    """Return the observed Fisher information, -d^2 log p/dtheta^2 at the estimate, priors included.

    Central differences of the exact gradient, on the unconstrained scales, where it vanishes.
    Raises ValueError for a calibration by another objective than "likelihood".
    """
    problem, u = problem_of(fit)
    objective = make_likelihood(problem)
    errors = np.sqrt(np.diag(np.asarray(fit.covariance)))
    rows = []
    for i, error in enumerate(errors):
        move = np.zeros(len(u))
        move[i] = DIFFERENCE * min(error, 2.0)
        up, down = (likelihood_point(objective, u + s * move, fit.level) for s in (1, -1))
        rows.append((up.gradient - down.gradient) / (2 * move[i]))
    matrix = np.array(rows)
    slope = slopes_of(problem, u)
    return (matrix + matrix.T) / 2 / np.outer(slope, slope)


def fisher_information(fit: Calibration) -> Float[np.ndarray, "free free"]:
    """Return the expected Fisher information, priors included, as the data's own mean of it.

    By Louis' identity, see inference.point: what the records would hold if the frequencies of the
    shots were known, less what is missing.  Its inverse is the covariance that a fit quotes.
    Raises ValueError for a calibration by another objective than "likelihood".
    """
    problem, u = problem_of(fit)
    slope = slopes_of(problem, u)
    return np.asarray(fit.information) / np.outer(slope, slope)


def cramer_rao(information: Float[np.ndarray, "free free"]) -> Float[np.ndarray, "free"]:
    """Return the least standard errors of unbiased estimates, sqrt diag I^-1.

    Raises ValueError for an information matrix that is singular.
    """
    d = np.sqrt(np.clip(np.diag(information), 0, None))
    if not np.all(d > 0) or not np.linalg.eigvalsh(information / np.outer(d, d))[0] > 1e-12:
        raise ValueError(
            "information: wanted a positive definite matrix, got one by which a parameter is not "
            "determined; see identifiability"
        )
    return np.sqrt(np.diag(np.linalg.inv(information)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """Hold a profile likelihood of one parameter.

    value: where the profile was taken, SI, rising.  drop: log-likelihood lost there, with all
    others at their best, nats.  lower, upper: where it is half the square of `sigmas`; at an
    edge of the range where the data do not exclude it.
    """

    name: str
    value: Float[np.ndarray, "points"]
    drop: Float[np.ndarray, "points"]
    lower: float
    upper: float
    sigmas: float


def profile(fit: Calibration, name: str, *, sigmas: float = 1.0) -> Profile:
    """Return the profile-likelihood interval of a parameter: exact to its curvature and skewness.

    sigmas: half width in standard errors, 1 for 68 %, 1.96 for 95 %.
    Raises ValueError for an unknown parameter or a calibration by another objective.
    """
    problem, u = problem_of(fit)
    if name not in fit.free:
        raise ValueError(f"name: wanted one of {', '.join(fit.free)}, got {name!r}")
    if not sigmas > 0:
        raise ValueError(f"sigmas: wanted a positive number, got {sigmas}")
    i = fit.free.index(name)
    evaluate = functools.partial(likelihood_point, make_likelihood(problem))
    best = evaluate(u, fit.level)
    seen, ends = [(u[i], 0.0)], []
    for side in (-1, 1):
        found, end = _side(evaluate, problem, fit, best, i, side, sigmas)
        seen += found
        ends.append(end)
    seen.sort()
    points = np.tile(u, (len(seen), 1))
    points[:, i] = [at for at, _ in seen]
    value = np.array([values_at(problem, p)[i] for p in points])
    order = np.argsort(value)
    low, high = (values_at(problem, np.where(np.arange(len(u)) == i, e, u))[i] for e in ends)
    return Profile(
        name=name,
        value=value[order],
        drop=np.array([drop for _, drop in seen])[order],
        lower=float(min(low, high)),
        upper=float(max(low, high)),
        sigmas=sigmas,
    )


def _side(evaluate, problem, fit, best: Point, i: int, side: int, sigmas: float):
    """Return (u_i, drop) on one side of the estimate, and the u_i of the interval's end."""
    edges = functools.partial(edges_of, problem.frees)
    covariance = np.asarray(fit.covariance)
    error = np.sqrt(covariance[i, i])
    ridge = covariance[:, i] / covariance[i, i]

    def moving(point: Point) -> np.ndarray:
        free = inside(point, edges)
        free[i] = False
        return free

    seen, point = [], best
    shift, last_shift, last_root = side * sigmas * error, 0.0, 0.0
    for _ in range(PROFILE_STEPS):
        if edges(best.u + shift * ridge)[i] == side:
            break
        start = evaluate(point.u + (best.u[i] + shift - point.u[i]) * ridge, fit.level)
        point, *_ = damped_descent(evaluate, moving, start, fit.level, [], 0, 20, 0.05)
        drop = point.loss - best.loss
        seen.append((best.u[i] + shift, drop))
        root = np.sqrt(max(2 * drop, 0.0))
        if abs(root - sigmas) < PROFILE_ERROR:
            break
        slope = (root - last_root) / (shift - last_shift) * side
        last_shift, last_root = shift, root
        # The root is nearly linear in u; a flat one is followed outwards.
        step = (sigmas - root) / slope if slope > 0 else error
        shift = shift + side * float(np.clip(step, -2 * error, 2 * error))
    return seen, best.u[i] + shift


# --- what the data do not tell --------------------------------------------------------------------

# A direction is weak when it is known worse than this, relative, and this many times worse than
# each parameter alone would be.
WEAK_ERROR = 0.2
WEAK_FACTOR = 3.0
# Smaller exponents of a combination are left out of its name.
SHOWN = 0.15

# What tells parameters apart that act together, by the fields that a weak direction holds.
REMEDIES = (
    (
        ({"g_m", "g_s"}, {"detector.efficiency", "detector.collection", "detector.S_SN"}),
        "add a sideband-asymmetry or back-action measurement (more photons), a record of the empty "
        "cavity, or a prior on the detector's gain A",
    ),
    (
        ({"g_m", "g_s"}, {"nbar"}),
        "add a prior on the photon number, or a stage where back-action rules",
    ),
    (({"gamma_m"}, {"n_bath"}), "add a ringdown from a hot start, which shows gamma_m alone"),
    (({"g_m"}, {"n_m0", "n_bath"}), "add a prior on the occupation, or a longer record"),
    (({"g_s"}, {"n_s0", "B_s"}), "add a prior on the occupation, or a longer record"),
    (({"sigma_m"}, {"gamma_m"}), "add a longer ringdown, which tells decay from dephasing"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identifiability:
    """Hold what data determine of the free parameters, and what they do not.

    errors: standard errors of independent combinations of the unconstrained scales, largest
    first; directions: these combinations, one a row.  text: the same in words.
    """

    free: tuple[str, ...]
    errors: Float[np.ndarray, "free"]
    directions: Float[np.ndarray, "free free"]
    text: str


def identifiability(fit: Calibration) -> Identifiability:
    """Return the weak directions of a calibration's information matrix, and a report in words.

    On unconstrained scales an error is a relative one: a combination prod theta_i^v_i that is known
    to 30 % is weak.
    """
    covariance = np.asarray(fit.covariance)
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(-values)
    errors = np.sqrt(np.clip(values[order], 0, None))
    directions = vectors[:, order].T
    alone = 1 / np.sqrt(np.diag(np.linalg.inv(covariance)))
    lines = []
    for error, v in zip(errors, directions, strict=True):
        main = np.abs(v) > SHOWN * np.abs(v).max()
        single = np.sqrt(np.sum((v * alone) ** 2))
        if error < WEAK_ERROR and error < WEAK_FACTOR * single:
            continue
        names = [fit.free[k] for k in np.flatnonzero(main)]
        if main.sum() == 1:
            if error >= WEAK_ERROR:
                known = f"{names[0]} is known to {_percent(error)} only"
                lines.append(f"{known}; take more shots, or give a prior")
            continue
        if error < WEAK_FACTOR * single and error < 0.5:
            continue
        lines.append(_together(fit, v, main, error, names))
    if not lines:
        worst = int(np.argmax(np.diag(covariance)))
        lines = [
            f"every parameter is determined by itself, the least {fit.free[worst]}, to "
            f"{_percent(float(np.sqrt(covariance[worst, worst])))}"
        ]
    return Identifiability(
        free=fit.free, errors=errors, directions=directions, text="\n".join(lines)
    )


def _together(fit: Calibration, v, main, error: float, names: list[str]) -> str:
    """Return the sentence on parameters that act together."""
    v = np.where(main, v, 0.0) / np.abs(v).max()
    combination = " ".join(
        f"{n}^{c:+.1f}" for n, c in zip(names, v[main] * np.sign(v[main][0]), strict=True)
    )
    fields = {name.partition("[")[0] for name in names}
    remedy = next(
        (text for (some, others), text in REMEDIES if fields & some and fields & others),
        "give a prior of one of them, or add data that tell them apart",
    )
    joined = ", ".join(names[:-1]) + f" and {names[-1]}"
    how = "together"
    if len(names) == 2:
        # On log scales: what moves along x^+a y^-b leaves a product of powers as it is.
        how = "as a product in this data" if v[main].prod() < 0 else "as a ratio in this data"
    return (
        f"{joined} are determined only {how}: along {combination} the data leave "
        f"{_percent(error)}; {remedy}"
    )


def _percent(error: float) -> str:
    return f"{100 * error:.2g} %" if error < 1 else f"a factor of {np.exp(min(error, 20)):.2g}"
