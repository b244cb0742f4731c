"""The two-mode state by matched filters: growth, resonance of the correlation, beat (Fig. 4)."""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxsde.analysis.moments import (
    derived,
    estimate_moments,
    pair_correlation,
    true_moments,
)
from jaxsde.analysis.reconstruct import maximally_correlated
from jaxsde.analysis.systematics import record_moments, systematic_moments
from jaxsde.engine.resolution import choose_resolution
from jaxsde.lab.experiment import ensemble, reconstruct, ringdown_filters
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.gallery.settings import (
    DELTA_PRINTED,
    DELTA_THEORY,
    KHZ,
    Settings,
    Tell,
    experiment,
    facts_of,
    key_of,
    shots_of,
    simulated,
)
from jaxsde.lab.spec import Experiment, build_sequence
from jaxsde.lab.table import free_phase
from jaxsde.physics.params import TWO_PI, Params

NAMES = ("n_m", "n_s", "abs_ab", "arg_ab")
T_CS = np.arange(0, 101, 10) * 1e-6  # s
DELTAS = np.arange(-10, 20.1, 2.5) * KHZ
DRAWS = 200
# Standard errors of what the filters take for known; the paper prints none.  Relative ones, but for
# the two frequencies, in rad/s.
UNCERTAIN = dict(
    g_m=0.02,
    g_s=0.02,
    kappa=0.01,
    gamma_m=0.1,
    n_bath=0.1,
    B_s=0.15,
    sigma_m=0.1,
    sigma_s=0.1,
    omega_m=TWO_PI * 50.0,
    omega_s=TWO_PI * 10.0,
    nbar=0.02,
)
ABSOLUTE = ("omega_m", "omega_s")


def uncertainties(params: Params, nbar: float) -> dict[str, float]:
    """Return the standard errors of UNCERTAIN in SI units."""
    values = {name: float(getattr(params, name, nbar)) for name in UNCERTAIN}
    return {
        name: error if name in ABSOLUTE else abs(error * values[name])
        for name, error in UNCERTAIN.items()
    }


def estimated(
    settings: Settings, dataset: str, index: int, made: Experiment
) -> dict[str, dict[str, float]]:
    """Simulate one setting; return value, stat, sys and exact of NAMES when the ringdown begins."""
    sequence, p, d = build_sequence(made), made.params, made.detector
    shots = simulated(settings, dataset, index, made, sequence)
    bank = ringdown_filters(made, sequence)
    resolution = choose_resolution(p, sequence)
    moments = estimate_moments(shots.record, bank, p, sequence, d, resolution=resolution)
    spread = systematic_moments(
        jax.random.fold_in(key_of(settings, dataset, index), 1),
        record_moments(shots.record, bank),
        p,
        sequence,
        d,
        uncertainties(p, 4.0),
        draws=DRAWS,
        resolution=resolution,
    )
    found = derived(moments.C, moments.C_cov)
    exact = derived(true_moments(p, sequence, bank.stage, resolution=resolution))
    out: dict[str, dict[str, float]] = {}
    for name in NAMES:
        low, high = spread.interval(name)
        value, error = found[name]
        out[name] = dict(
            value=value, stat=float(error or 0.0), sys=(high - low) / 2, exact=exact[name][0]
        )
    return out


def exact_moments(made: Experiment) -> dict[str, float]:
    """Return the exact NAMES when the ringdown of an experiment begins."""
    sequence = build_sequence(made)
    found = derived(true_moments(made.params, sequence, len(sequence.stages) - 1))
    return {name: found[name][0] for name in NAMES}


def _table(found: list[dict[str, dict[str, float]]], shape: tuple[int, ...]):
    """Return {name_part: array} of estimates."""
    return {
        f"{name}_{part}": np.array([one[name][part] for one in found]).reshape(shape)
        for name in NAMES
        for part in ("value", "stat", "sys", "exact")
    }


def make_growth(settings: Settings, tell: Tell) -> Record:
    """Simulate Fig. 4a: occupations and correlation against t_c, at two detunings."""
    deltas = np.array([DELTA_PRINTED, DELTA_THEORY])
    common: dict[str, Any] = dict(shots=shots_of(settings, "growth"), seed=settings.seed)
    made = [
        experiment(delta=float(delta), t_c=float(t_c), **common) for delta in deltas for t_c in T_CS
    ]
    found = []
    for i, one in enumerate(made):
        found.append(estimated(settings, "growth", i, one))
        tell(i + 1, len(made))
    shape = (deltas.size, T_CS.size)
    arrays = _table(found, shape) | dict(delta=deltas, t_c=T_CS)
    predicted, error = predict(arrays)
    arrays |= dict(predicted=predicted, predicted_error=error)
    facts = facts_of(made[-1], draws=DRAWS, uncertain=UNCERTAIN, absolute=list(ABSOLUTE))
    return Record(arrays=arrays, facts=facts)


def predict(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return |<a b>| at each t_c as theory has it of the measured initial state, and its error.

    Measured at t_c = 0, before either detuning matters, taken as uncorrelated (S.3), and evolved
    at the best detuning of theory.
    """
    start = {name: float(arrays[f"{name}_value"][:, 0].mean()) for name in ("n_m", "n_s")}
    error = {}
    for name in start:
        stat = arrays[f"{name}_stat"][:, 0]
        # The filters' parameters are wrong alike in both.
        both = np.sqrt(np.sum(stat**2)) / stat.size, arrays[f"{name}_sys"][:, 0].mean()
        error[name] = float(np.hypot(*both))

    def correlation(n_m: float, n_s: float) -> np.ndarray:
        params = Params.kohler2018(n_m0=max(n_m, 0.0), n_s0=max(n_s, 0.0))
        out = []
        for t_c in T_CS:
            made = experiment(params=params, delta=DELTA_THEORY, t_c=float(t_c))
            # The state was measured: preparation and ramp are over.
            after = dataclasses.replace(made, stages=made.stages[2:])
            out.append(exact_moments(after)["abs_ab"])
        return np.array(out)

    n_m, n_s = start["n_m"], start["n_s"]
    centre = correlation(n_m, n_s)
    slopes = [
        correlation(n_m + error["n_m"], n_s) - centre,
        correlation(n_m, n_s + error["n_s"]) - centre,
    ]
    return centre, np.hypot(*slopes)


def make_detuning(settings: Settings, tell: Tell) -> Record:
    """Simulate Fig. 4b: correlated occupation and phase against delta after 60 us."""
    common: dict[str, Any] = dict(
        t_c=60e-6, shots=shots_of(settings, "detuning"), seed=settings.seed
    )
    made = [experiment(delta=float(delta), **common) for delta in DELTAS]
    found = []
    for i, one in enumerate(made):
        found.append(estimated(settings, "detuning", i, one))
        tell(i + 1, len(made))
    arrays = _table(found, (DELTAS.size,)) | dict(delta=DELTAS)
    turns = np.array([_turn(one) for one in made])
    for part in ("value", "exact"):
        arrays[f"arg_ab_{part}"] = _wrapped(arrays[f"arg_ab_{part}"] + turns)
    fine = np.linspace(DELTAS[0], DELTAS[-1], 121)
    lines = [experiment(delta=float(delta), **common) for delta in fine]
    exact = [exact_moments(one) for one in lines]
    arrays |= dict(
        fine_delta=fine,
        fine_abs=np.array([one["abs_ab"] for one in exact]),
        fine_arg=_wrapped(
            np.array([one["arg_ab"] + _turn(e) for one, e in zip(exact, lines, strict=True)])
        ),
    )
    facts = facts_of(made[0], draws=DRAWS, uncertain=UNCERTAIN, absolute=list(ABSOLUTE))
    return Record(arrays=arrays, facts=facts)


def _turn(made: Experiment) -> float:
    """Return the phase that undoes the free evolution of the ramp after the pulse, rad."""
    angle = free_phase(made, build_sequence(made))
    assert angle is not None
    return angle


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """Return angles within pi of -pi/2, where the pair's phase is expected."""
    return np.angle(np.exp(1j * (angle + np.pi / 2))) - np.pi / 2


def make_beat(settings: Settings, tell: Tell) -> Record:
    """Simulate Fig. 4c: <D^2> of the ringdown against its reconstruction from the estimated C."""
    made = experiment(t_c=60e-6, shots=shots_of(settings, "beat"), seed=settings.seed)
    arrays: dict[str, np.ndarray] = {}
    for i, name in enumerate(("with", "without")):
        sequence = build_sequence(made, coupled=name == "with")
        shots = simulated(settings, "beat", i, made, sequence)
        seen = ensemble(made, sequence, shots)
        span = sequence.span("ringdown")
        bank = ringdown_filters(made, sequence)
        resolution = choose_resolution(made.params, sequence)
        moments = estimate_moments(
            shots.record, bank, made.params, sequence, made.detector, resolution=resolution
        )
        line = reconstruct(made, sequence, moments, resolution)
        start = span.start * sequence.sample_interval
        arrays |= {
            f"{name}_mean": np.asarray(seen.displacement.mean)[span],
            f"{name}_stderr": np.asarray(seen.displacement.stderr)[span],
            f"{name}_expected": seen.expected[span],
            f"{name}_line": line.mean,
            f"{name}_line_stderr": line.stderr,
            f"{name}_lower": line.lower,
            f"{name}_upper": line.upper,
            f"{name}_C": np.asarray(moments.C),
            f"{name}_C_cov": np.asarray(moments.C_cov),
        }
        found = derived(moments.C, moments.C_cov)
        arrays |= {f"{name}_{k}": np.array([v, e or 0.0]) for k, (v, e) in found.items()}
        most = maximally_correlated(moments.C, made.params.epsilon)
        arrays[f"{name}_bound"] = np.asarray(abs(pair_correlation(most)))
        arrays |= dict(time=sequence.time[span] - start, line_time=line.time - start)
        tell(i + 1, 2)
    return Record(arrays=arrays, facts=facts_of(made))
