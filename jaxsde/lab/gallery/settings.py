"""Settings of the gallery: the paper's experiments, numbers of shots, streams of random numbers.

Printed in the paper: couplings, widths, nbar, |Delta_pc|, the 10 us ramps, 200 repetitions
(Figs. 2 and 4), around 30 (Fig. 3), delta/2pi = 14 kHz (Figs. 3a, 4a), t_c = 60 us (Fig. 4b).
What it leaves open is chosen here, and every caption says so.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxsde.analysis.displacement import BAND, CYCLE_AVERAGE
from jaxsde.engine.detect import Detector
from jaxsde.engine.simulate import Shots, simulate
from jaxsde.lab.spec import AnalysisSpec, Experiment, StageSpec
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Sequence

KHZ, MHZ = TWO_PI * 1e3, TWO_PI * 1e6

DELTA_PRINTED = 14 * KHZ  # Figs. 3a and 4a
DELTA_THEORY = 5.5 * KHZ  # near the largest gain of the steady-state theory (docs/conventions.md)
RED, BLUE = -2.0 * MHZ, +2.0 * MHZ  # Figs. 3c and 3d; printed without the first's sign

# Called as tell(done, total) after each setting of a figure.
Tell = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Hold what a caller may choose.

    shots: of every ensemble; None takes those of the paper (`SHOTS`).  seed: of all of them.
    """

    shots: int | None = None
    seed: int = 2018


# Shots of each ensemble by default, and where they are from.
SHOTS = {
    "modes": (200, "the paper's Figs. 1a-b are no measurement: 200 chosen"),
    "pulse": (200, "as printed for Fig. 2"),
    "onset": (30, "as printed for Fig. 3a, around 30"),
    "resonance": (30, "as printed for Fig. 3a, around 30"),
    "inverted": (30, "as printed for Fig. 3a, around 30"),
    "growth": (200, "as printed for Fig. 4"),
    "detuning": (200, "as printed for Fig. 4"),
    "beat": (200, "as printed for Fig. 4"),
    "diffusion": (1000, "none printed for Fig. S1c: 1000 chosen"),
    "positive": (30, "none printed for Fig. S2: those of Fig. 3 taken"),
}
# Of the second, larger ensembles of the gain scans, for each of the caller's shots.
MANY = 1000


def shots_of(settings: Settings, dataset: str) -> int:
    """Return the shots of each ensemble of a dataset."""
    return SHOTS[dataset][0] if settings.shots is None else settings.shots


def key_of(settings: Settings, dataset: str, ensemble: int) -> jax.Array:
    """Return the random key of one ensemble of one dataset: none shares a draw with another."""
    key = jax.random.fold_in(jax.random.key(settings.seed), list(SHOTS).index(dataset))
    return jax.random.fold_in(key, ensemble)


def experiment(
    *,
    params: Params | None = None,
    delta: float = DELTA_THEORY,
    nbar: float = 10.0,
    delta_pc: float = RED,
    t_c: float = 60e-6,
    t_ringdown: float = 500e-6,
    shots: int = 1,
    seed: int = 0,
) -> Experiment:
    """Return the paper's experiment: preparation, ramp, pulse, ramp back, ringdown (Fig. 2).

    delta, delta_pc: rad/s.  t_c, t_ringdown: s.  nbar: of the pulse.
    """
    rest: dict[str, Any] = dict(nbar=1.0, B_s=0.0)
    stages = (
        StageSpec(name="preparation", duration=60e-6, **rest),
        StageSpec(name="ramp_up", duration=10e-6, omega_m=("rest", "coupled"), **rest),
        StageSpec(
            name="pulse", duration=t_c, nbar=nbar, delta_pc=delta_pc, omega_m="coupled", B_s=0.0
        ),
        StageSpec(name="ramp_down", duration=10e-6, nbar=4.0, omega_m=("coupled", "rest")),
        StageSpec(name="ringdown", duration=t_ringdown, nbar=4.0),
    )
    return Experiment(
        title="Kohler et al. (2018)",
        params=Params.kohler2018() if params is None else params,
        detector=Detector(),
        stages=stages if t_c > 0 else tuple(s for s in stages if s.name != "pulse"),
        delta=delta,
        shots=shots,
        seed=seed,
        analysis=AnalysisSpec(
            ringdown="ringdown",
            band=BAND,
            cycle_average=CYCLE_AVERAGE,
            pulse="pulse" if t_c > 0 else None,
            fit_window=(12e-6, t_c - 8e-6) if t_c > 20e-6 else None,
        ),
    )


def simulated(
    settings: Settings, dataset: str, ensemble: int, made: Experiment, sequence: Sequence
) -> Shots:
    """Simulate one ensemble of made.shots shots by the exact method."""
    key = key_of(settings, dataset, ensemble)
    return simulate(key, made.params, sequence, made.detector, made.shots)


def facts_of(made: Experiment, **more: Any) -> dict[str, Any]:
    """Return the parameters of an experiment in SI units, as a caption needs them; more is added.

    Lists and numbers alone, so that JSON keeps them.
    """
    d = made.detector
    facts: dict[str, Any] = dict(
        params={k: float(np.asarray(v)) for k, v in dataclasses.asdict(made.params).items()},
        detector=dict(
            efficiency=float(np.asarray(d.efficiency)),
            collection=float(np.asarray(d.collection)),
            S_SN=float(np.asarray(d.S_SN)),
            sample_interval=d.sample_interval,
            quadratures=list(d.quadratures),
            model=d.model,
        ),
        stages=[dataclasses.asdict(stage) for stage in made.stages],
        delta=made.delta,
        shots=made.shots,
        seed=made.seed,
        band=list(made.analysis.band),
        cycle_average=made.analysis.cycle_average,
    )
    return facts | more
