"""Goodness of fit: whether the model predicts these records, and where it fails if not.

Every check is a number that is standard normal if the model holds, from the innovations of the
exact likelihood; see inference.innovations.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from jaxsde.inference.calibrate import Calibration
from jaxsde.inference.innovations import innovations
from jaxsde.inference.likelihood import RUNGS, shot_log_likelihoods
from jaxsde.inference.point import Likelihood, likelihood_point, make_likelihood
from jaxsde.inference.problem import Problem, model_at
from jaxsde.inference.transform import Free, Model, make_free
from jaxsde.physics.sequence import Sequence

# A check beyond this many standard errors says that the model does not hold: some 20 checks of a
# model that does have one beyond it in 1 % of cases.
LIMIT = 3.5
# What else may pull a parameter that is held.
HINTS = {
    "gamma_m": " (or its frequency varies from shot to shot)",
    "n_s0": " (or the spin's mass has the other sign)",
    "n_m0": " (or the spin's mass has the other sign)",
    "B_s": " (or the spin's frequency varies from shot to shot)",
}
# Parameters whose values a calibration may hold wrongly.
HELD = ("omega_m", "omega_s", "g_m", "g_s", "gamma_m", "n_bath", "B_s", "n_m0", "n_s0")
# Lags of the whiteness test, in samples, and the shortest stretch that has a spectrum.
LAGS = 40
SHORTEST = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """Hold one check: its name, its z and what a large one means."""

    name: str
    z: float
    meaning: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualSpectrum:
    """Hold the mean periodogram of the innovations in a stage, 1 if the model holds, over Hz."""

    stage: str
    frequency: Float[np.ndarray, "frequencies"]
    power: Float[np.ndarray, "frequencies"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoodnessOfFit:
    """Hold how well a calibration's model predicts its records.

    checks: each a z, standard normal if the model holds.  chi2, dof: sum of squared innovations.
    spectra: of the innovations, of every stage that is long enough.  shot_z: of each shot's chi^2.
    strange: numbers of the shots that do not fit.  holds: whether no check is beyond `LIMIT`.
    text: the same in words.
    """

    checks: tuple[Check, ...]
    chi2: float
    dof: int
    spectra: tuple[ResidualSpectrum, ...]
    shot_z: Float[np.ndarray, "shots"]
    strange: Int[np.ndarray, "strange"]
    holds: bool
    text: str


def goodness_of_fit(fit: Calibration) -> GoodnessOfFit:
    """Return checks of a calibration's model against its records: innovations, spectra, shots.

    Innovations alone see little of what the free parameters make up for, such as a wrong sign of
    the spin's mass; the scores of the parameters that were held do.
    Whiteness and chi^2 of the innovations, stage by stage; their residual spectrum; their tails,
    which clipping cuts; single shots; whether frequencies vary more between shots than said.
    Raises ValueError for a calibration by another objective than "likelihood".
    """
    if fit.objective != "likelihood" or fit.problem is None or fit.u is None:
        raise ValueError(
            f"fit: wanted a calibration with objective='likelihood', got {fit.objective!r}"
        )
    problem, u = fit.problem, np.asarray(fit.u)
    objective = make_likelihood(problem)
    checks, spectra, shot_z, chi2, dof = [], [], [], 0.0, 0
    for data, model in enumerate(problem.models):
        e = innovations(objective, u, data, fit.level)
        label = "" if len(problem.models) == 1 else f" of data {data}"
        checks += _variance(e, model.sequence, label)
        checks += [_whiteness(e, label), _tails(e, label)]
        found, worst = _spectra(e, model.sequence, label)
        spectra += found
        checks += worst
        checks += _jitter(objective, u, data, fit.level, label)
        there = np.isfinite(e)
        square, count = np.nansum(e**2, axis=(1, 2)), there.sum(axis=(1, 2))
        shot_z.append(_normal_of_chi2(square, count))
        chi2, dof = chi2 + float(square.sum()), dof + int(count.sum())
    checks += _held(problem, u, fit.level)
    z = np.concatenate(shot_z)
    limit = scipy.stats.norm.isf(scipy.stats.norm.sf(LIMIT) / len(z))
    strange = np.flatnonzero(np.abs(z) > limit)
    bad = sorted((c for c in checks if abs(c.z) > LIMIT), key=lambda c: -abs(c.z))
    return GoodnessOfFit(
        checks=tuple(checks),
        chi2=chi2,
        dof=dof - len(u),
        spectra=tuple(spectra),
        shot_z=z,
        strange=strange,
        holds=not bad and not strange.size,
        text=_words(bad, strange, z),
    )


def _normal_of_chi2(square: Any, count: Any) -> Any:
    """Return the z of chi^2 values, by Wilson and Hilferty's cube root."""
    count = np.maximum(count, 1)
    return ((square / count) ** (1 / 3) - 1 + 2 / (9 * count)) / np.sqrt(2 / (9 * count))


def _mean_z(x: np.ndarray) -> float:
    """Return the mean of x, NaN left out, over its standard error."""
    x = x[np.isfinite(x)]
    return float(x.mean() / (x.std() / np.sqrt(x.size))) if x.size > 1 else 0.0


def _variance(e: np.ndarray, sequence: Sequence, label: str) -> list[Check]:
    out, first = [], 0
    for stage in sequence.stages:
        part = e[:, first : first + stage.n_samples]
        first += stage.n_samples
        # Shot by shot, so that what varies between shots is in the error.
        each = (
            np.nanmean(np.where(np.isfinite(part), part**2 - 1, np.nan), axis=(1, 2))
            if len(e) > 20
            else part**2 - 1
        )
        out.append(
            Check(
                name=f"chi^2 in {stage.name}{label}",
                z=_mean_z(np.ravel(each)),
                meaning=f"innovations in {stage.name} are too large or too small",
            )
        )
    return out


def _whiteness(e: np.ndarray, label: str) -> Check:
    """Return the Ljung-Box sum of squared autocorrelations over LAGS lags, as a z."""
    lags = range(1, min(LAGS, e.shape[1] // 2) + 1)
    clean = np.nan_to_num(e)
    total, count = 0.0, 0
    for k in range(e.shape[2]):
        for lag in lags:
            products = clean[:, lag:, k] * clean[:, :-lag, k]
            n = np.sum(np.isfinite(e[:, lag:, k]) & np.isfinite(e[:, :-lag, k]))
            total += products.sum() ** 2 / max(n, 1)
            count += 1
    z = float(_normal_of_chi2(total, count))
    return Check(name=f"whiteness{label}", z=z, meaning="innovations are correlated in time")


def _tails(e: np.ndarray, label: str) -> Check:
    """Return the fourth moment of the innovations less a normal's, as a z."""
    x = e[np.isfinite(e)]
    x = x / x.std()
    z = float((np.mean(x**4) - 3) / np.sqrt(96 / x.size))
    return Check(
        name=f"tails{label}",
        z=z,
        meaning="innovations have too short tails (clipped?) or too long ones (glitches?)",
    )


def _spectra(e: np.ndarray, sequence: Sequence, label: str):
    """Return (stage, frequency, mean periodogram) of every stage, and checks of them."""
    found, checks, first = [], [], 0
    clean = np.nan_to_num(e)
    share = np.isfinite(e)
    for stage in sequence.stages:
        part = slice(first, first + stage.n_samples)
        first += stage.n_samples
        if stage.n_samples < SHORTEST:
            continue
        power = np.abs(np.fft.rfft(clean[:, part], axis=1)) ** 2
        held = share[:, part].sum(axis=1)[:, None]
        power = power / np.maximum(held, 1)
        # Without the mean and the highest frequency, whose law is another.
        inner = power[:, 1 : (stage.n_samples + 1) // 2]
        f = np.fft.rfftfreq(stage.n_samples, sequence.sample_interval)[1 : 1 + inner.shape[1]]
        mean = inner.mean(axis=(0, 2))
        number = inner.shape[0] * inner.shape[2]
        found.append(ResidualSpectrum(stage=stage.name + label, frequency=f, power=mean))
        z = _normal_of_chi2(2 * number * mean, np.full(mean.shape, 2 * number))
        worst = int(np.argmax(np.abs(z)))
        # The z of the largest of many is brought back to one normal.
        p = min(1.0, 2 * scipy.stats.norm.sf(abs(z[worst])) * len(z))
        checks.append(
            Check(
                name=f"spectrum in {stage.name}{label}",
                z=float(np.sign(z[worst]) * scipy.stats.norm.isf(max(p, 1e-300) / 2)),
                meaning=f"innovations in {stage.name} have a line at {f[worst] / 1e3:.4g} kHz",
            )
        )
    return found, checks


def _jitter(objective: Likelihood, u, data: int, level: int, label: str) -> list[Check]:
    """Return whether more jitter of each frequency would make the shots likelier.

    The ratio of a shot's likelihood under another model to that under the true one has mean 1.
    """
    problem = objective.problem
    model = model_at(problem, np.asarray(u), data)
    sequence = model.sequence
    more = 0.5 / (max(s.n_samples for s in sequence.stages) * sequence.sample_interval)
    base = {name: float(np.asarray(getattr(model.params, name))) for name in ("sigma_m", "sigma_s")}
    nodes = (RUNGS[max(level, 1)],) * 2
    out = []
    plain = _shots(problem, data, base, nodes, u)
    for name in base:
        wider = base | {name: float(np.hypot(base[name], more))}
        gain = np.expm1(np.clip(_shots(problem, data, wider, nodes, u) - plain, None, 50))
        out.append(
            Check(
                name=f"{name}{label}",
                z=max(_mean_z(gain), 0.0) if gain.mean() > 0 else 0.0,
                meaning=f"frequencies vary more from shot to shot than {name} says",
            )
        )
    return out


def _shots(problem: Problem, data: int, sigmas: dict[str, float], nodes, u) -> np.ndarray:
    model = model_at(problem, np.asarray(u), data)
    params = dataclasses.replace(model.params, **sigmas)
    # One resolution for all, whose jitter nodes hold the widest.
    resolution = problem.resolutions[data]
    wide = dataclasses.replace(resolution, jitter_nodes=max(resolution.jitter_nodes, 5))
    made = shot_log_likelihoods(
        params,
        problem.records[data],
        sequence=model.sequence,
        detector=model.detector,
        nodes=nodes,
        resolution=wide,
    )
    return np.asarray(made)


def _held(problem: Problem, u: np.ndarray, level: int) -> list[Check]:
    """Return the score tests of parameters that were held: whether the records want them changed.

    The score of a held parameter, less what the free ones account for, has mean 0 over shots.
    """
    models = tuple(model_at(problem, np.asarray(u), d) for d in range(len(problem.models)))
    models = jax.tree.map(float, models)
    held = [name for name in HELD if name not in {f.field for f in problem.frees}]
    data = tuple(range(len(models)))
    more = []
    for name in held:
        if float(getattr(models[0].params, name)) != 0 and _acts(models[0], name):
            more.append(make_free(models, name, {}, data, name))
    if not more:
        return []
    frees = (*(_restarted(f, models) for f in problem.frees), *more)
    wider = dataclasses.replace(problem, models=models, frees=frees, priors={})
    point = likelihood_point(make_likelihood(wider), np.zeros(len(frees)), level)
    n = len(problem.frees)
    scores, information = point.scores, point.complete
    shares = np.linalg.solve(information[:n, :n], information[:n, n:])
    left = scores[:, n:] - scores[:, :n] @ shares
    out = []
    for k, free in enumerate(more):
        z = _mean_z(left[:, k])
        where = "up" if z * free.start > 0 else "down"
        meaning = f"the records pull {free.name} {where}" + HINTS.get(free.name, "")
        out.append(Check(name=f"{free.name} as held", z=z, meaning=meaning))
    return out


def _acts(model: Model, name: str) -> bool:
    """Tell whether a field of Params acts on a sequence that may set it in every stage."""
    if name not in ("B_s", "n_bath", "omega_m"):
        return True
    settings = [getattr(stage.controls, name) for stage in model.sequence.stages]
    rest = getattr(model.params, name)
    return any(s is None or (name == "omega_m" and s == rest) for s in settings)


def _restarted(free: Free, models: tuple[Model, ...]) -> Free:
    """Return a free parameter that starts at its value in the models, on a plain scale."""
    return make_free(models, free.field, {}, free.data, free.name)


def _words(bad: list[Check], strange: np.ndarray, z: np.ndarray) -> str:
    lines = [f"{c.meaning} ({c.name}, z = {c.z:+.1f})" for c in bad]
    if strange.size:
        shown = ", ".join(f"{i} (z = {z[i]:+.1f})" for i in strange[:8])
        more = f" and {strange.size - 8} more" if strange.size > 8 else ""
        lines.append(f"shots that do not fit: {shown}{more}")
    return "\n".join(["the model does not hold:", *lines]) if lines else "the model holds"
