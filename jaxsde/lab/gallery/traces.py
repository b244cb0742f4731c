"""Traces of <D^2> during pulses: onset, resonance, inverted probe, two positive masses (3, S2)."""

import dataclasses
from collections.abc import Iterable
from collections.abc import Sequence as Series
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.displacement import MeanSquaredDisplacement
from jaxsde.analysis.joint_gain import JointGain, fit_gain_jointly
from jaxsde.lab.experiment import ensemble
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.gallery.settings import (
    BLUE,
    DELTA_PRINTED,
    DELTA_THEORY,
    KHZ,
    MANY,
    MHZ,
    RED,
    Settings,
    Tell,
    experiment,
    facts_of,
    shots_of,
    simulated,
)
from jaxsde.lab.pulse import pulse_gain, pulse_start
from jaxsde.lab.spec import Experiment, build_sequence
from jaxsde.physics.params import Params
from jaxsde.physics.theory import spring_coupling

REACH = 30e-6  # s after the pulse, which the filters of S11 look at
DELTA_PCS = np.array([0.0, -0.35, -0.75, -1.25, -2.0]) * MHZ
RED_DELTAS = np.arange(-7.5, 20.1, 2.5) * KHZ
BLUE_DELTAS = np.arange(-12.5, 5.1, 2.5) * KHZ
RED_T_C, BLUE_T_C = 140e-6, 300e-6  # s
EDGE = 20e-6  # s of either end of the window, whose means tell the growth of two positive masses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traces:
    """Hold traces of one pulse length, and their exact expectations.

    time: s from the start of the pulse.  origin: s, of that start in the shot.
    """

    each: list[MeanSquaredDisplacement]
    expected: np.ndarray
    time: np.ndarray
    origin: float

    def arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Return means and standard errors (traces, samples), (rad/s)^2."""
        return {
            f"{prefix}mean": np.stack([np.asarray(t.mean) for t in self.each]),
            f"{prefix}stderr": np.stack([np.asarray(t.stderr) for t in self.each]),
        }


def traces(
    settings: Settings,
    dataset: str,
    made: Series[Experiment],
    tell: Tell,
    *,
    first: int = 0,
    total: int = 0,
) -> Traces:
    """Simulate experiments whose pulses are of one length.

    first: ensembles made before.  total: of the whole dataset.
    """
    each, expected, sequence = [], [], None
    for i, one in enumerate(made):
        sequence = build_sequence(one)
        shots = simulated(settings, dataset, first + i, one, sequence)
        found = ensemble(one, sequence, shots)
        each.append(found.displacement)
        expected.append(found.expected)
        tell(first + i + 1, total or len(made))
    assert sequence is not None
    origin = pulse_start(made[0], sequence)
    return Traces(
        each=each, expected=np.stack(expected), time=sequence.time - origin, origin=origin
    )


def pulses(
    settings: Settings, dataset: str, deltas: Iterable[float], t_c: float, **how: Any
) -> list[Experiment]:
    """Return experiments at every delta (rad/s) whose pulses, of t_c (s), are all that counts."""
    shots = shots_of(settings, dataset)
    common: dict[str, Any] = dict(t_c=t_c, t_ringdown=REACH, shots=shots, seed=settings.seed)
    return [experiment(delta=float(delta), **common, **how) for delta in deltas]


def fit_window(made: Experiment) -> tuple[float, float]:
    """Return where a pulse is fitted, s from its start."""
    window = made.analysis.fit_window
    assert window is not None
    return window


def make_onset(settings: Settings, tell: Tell) -> Record:
    """Simulate Fig. 3a: growth for increasing optical coupling, at two detunings."""
    deltas = np.array([DELTA_PRINTED, DELTA_THEORY])
    made = [
        one
        for delta in deltas
        for x in DELTA_PCS
        for one in pulses(settings, "onset", [delta], 100e-6, delta_pc=float(x))
    ]
    found = traces(settings, "onset", made, tell)
    shape = (deltas.size, DELTA_PCS.size, -1)
    arrays = {k: v.reshape(shape) for k, v in found.arrays().items()}
    springs = [_spring(one) for one in made[: DELTA_PCS.size]]
    gains = [float(pulse_gain(one, np.array([one.delta]))[0]) for one in made]
    arrays |= dict(
        time=found.time,
        expected=found.expected.reshape(shape),
        delta=deltas,
        delta_pc=DELTA_PCS,
        spring=np.array(springs),
        gain=np.array(gains).reshape(deltas.size, -1),
    )
    return Record(arrays=arrays, facts=facts_of(made[-1]))


def _spring(one: Experiment) -> float:
    controls = next(s for s in build_sequence(one).stages if s.name == "pulse").controls
    return float(spring_coupling(one.params, controls))


def make_resonance(settings: Settings, tell: Tell) -> Record:
    """Simulate Figs. 3b and 3c: traces for a range of delta, fitted together (S12, S.5)."""
    return _scan(settings, "resonance", RED_DELTAS, RED, RED_T_C, tell)


def make_inverted(settings: Settings, tell: Tell) -> Record:
    """Simulate Fig. 3d: the same at the inverted probe detuning."""
    return _scan(settings, "inverted", BLUE_DELTAS, BLUE, BLUE_T_C, tell)


def _scan(
    settings: Settings, dataset: str, deltas: np.ndarray, delta_pc: float, t_c: float, tell: Tell
) -> Record:
    """Return traces of the paper's number of shots, their joint fit, and two more such fits.

    Those of many shots, and of the exact expectation, which has no noise.
    """
    made = pulses(settings, dataset, deltas, t_c, delta_pc=delta_pc)
    more = [dataclasses.replace(one, shots=max(MANY, one.shots)) for one in made]
    both = 2 * len(made)
    few = traces(settings, dataset, made, tell, total=both)
    many = traces(settings, dataset, more, tell, first=len(made), total=both)
    window = fit_window(made[0])
    perfect = [
        dataclasses.replace(t, mean=jnp.asarray(e))
        for t, e in zip(many.each, many.expected, strict=True)
    ]
    fine = np.linspace(deltas[0], deltas[-1], round(np.ptp(deltas) / (0.05 * KHZ)) + 1)
    arrays = few.arrays() | dict(
        time=few.time,
        expected=few.expected,
        delta=deltas,
        theory=pulse_gain(made[0], deltas),
        fine_delta=fine,
        fine_theory=pulse_gain(made[0], fine),
    )
    facts = facts_of(made[0], window=list(window), many=more[0].shots)
    for prefix, each in (("", few.each), ("many_", many.each), ("exact_", perfect)):
        fit = joint_fit(each, few.origin, window)
        arrays |= {prefix + k: v for k, v in _fitted(fit).items()}
        facts |= {
            f"{prefix}p_value": float(fit.p_value[0]),
            f"{prefix}converged": fit.converged,
            f"{prefix}bins": int(fit.data.mean.shape[-1]),
        }
    return Record(arrays=arrays, facts=facts)


def joint_fit(
    each: list[MeanSquaredDisplacement], origin: float, window: tuple[float, float]
) -> JointGain:
    """Return S12 fitted to traces with a common D_0; fewer bins where shots are few."""
    bins = bins_for(each[0].n_shots)
    start, stop = (origin + t for t in window)
    return fit_gain_jointly(each, start=start, stop=stop, origin=origin, bins=bins)


def bins_for(shots: int) -> int:
    """Return the parts of a fit window whose covariance that many shots tell."""
    return 8 if shots >= 100 else 6


def _fitted(fit: JointGain) -> dict[str, np.ndarray]:
    names = ("gain", "gain_stat", "gain_sys", "gain_range", "diffusion", "D_0", "D_0_stat")
    return {name: np.asarray(getattr(fit, name)) for name in names} | dict(
        closed=np.asarray(fit.closed)
    )


def make_positive(settings: Settings, tell: Tell) -> Record:
    """Simulate Fig. S2: the pulses of Fig. 3b on a spin of positive mass, and of negative mass."""
    signs = {"": 1.0, "negative_": -1.0}
    arrays: dict[str, np.ndarray] = {}
    facts = {}
    for k, (prefix, epsilon) in enumerate(signs.items()):
        params = Params.kohler2018(epsilon=epsilon)
        made = pulses(settings, "positive", RED_DELTAS, RED_T_C, params=params)
        n = len(made)
        found = traces(settings, "positive", made, tell, first=k * n, total=2 * n)
        window = fit_window(made[0])
        arrays |= found.arrays(prefix) | {
            f"{prefix}expected": found.expected,
            f"{prefix}theory": pulse_gain(made[0], RED_DELTAS),
        }
        arrays |= {prefix + k: v for k, v in pulse_ends(found, window).items()}
        arrays |= dict(time=found.time, delta=RED_DELTAS)
        if epsilon > 0:
            facts = facts_of(made[0], window=list(window), edge=EDGE)
    return Record(arrays=arrays, facts=facts)


def pulse_ends(found: Traces, window: tuple[float, float]) -> dict[str, np.ndarray]:
    """Return <D^2> averaged over EDGE at the late end of a window, and its growth over the window.

    Each with its standard error over shots and its exact expectation, (rad/s)^2.
    """
    time, (start, stop) = found.time, window
    early = (time >= start) & (time <= start + EDGE)
    late = (time >= stop - EDGE) & (time <= stop)
    out = {"late": [], "grown": []}
    for trace in found.each:
        each = np.asarray(trace.each, float)
        first, last = each[:, early].mean(-1), each[:, late].mean(-1)
        for name, x in (("late", last), ("grown", last - first)):
            out[name].append((x.mean(), x.std(ddof=1) / np.sqrt(len(x))))
    last = found.expected[:, late].mean(-1)
    exact = {"late": last, "grown": last - found.expected[:, early].mean(-1)}
    made = {}
    for name, values in out.items():
        made[name], made[f"{name}_error"] = np.array(values).T
        made[f"{name}_expected"] = exact[name]
    return made
