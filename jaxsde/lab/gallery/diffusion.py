"""Anomalous diffusion of the spin, and B_s calibrated from it (Fig. S1c)."""

import dataclasses

import numpy as np

from jaxsde.analysis.anomalous import fit_diffusion
from jaxsde.analysis.displacement import expected_displacement
from jaxsde.engine.resolution import choose_resolution
from jaxsde.lab.experiment import ensemble
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.gallery.settings import (
    KHZ,
    Settings,
    Tell,
    experiment,
    facts_of,
    shots_of,
    simulated,
)
from jaxsde.lab.spec import build_sequence
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Controls
from jaxsde.physics.theory import backaction_rate

OMEGA_S = 110 * KHZ  # printed, Fig. S1c
MARGIN = 20e-6  # s of either end of the measurement that the line leaves out


def make_diffusion(settings: Settings, tell: Tell) -> Record:
    """Simulate Fig. S1c: the linear growth of <D^2> under measurement, and what B_s makes it."""
    params = Params.kohler2018(omega_s=OMEGA_S)
    shots = shots_of(settings, "diffusion")
    made = experiment(params=params, t_c=0.0, shots=shots, seed=settings.seed)
    # No pulse, and so no ramps: the initial state, then its measurement.
    first, *_, last = made.stages
    made = dataclasses.replace(made, stages=(first, last), delta=None)
    sequence = build_sequence(made)
    seen = ensemble(made, sequence, simulated(settings, "diffusion", 0, made, sequence))
    tell(1, 2)
    origin = sequence.span("ringdown").start * sequence.sample_interval
    stop = sequence.n_samples * sequence.sample_interval - MARGIN
    resolution = choose_resolution(params, sequence)
    fit = fit_diffusion(
        seen.displacement,
        params,
        sequence,
        made.detector,
        start=origin + MARGIN,
        stop=stop,
        resolution=resolution,
    )
    calm = dataclasses.replace(params, B_s=0.0)
    still = expected_displacement(calm, sequence, made.detector, resolution=resolution)
    tell(2, 2)
    light = Controls(nbar=4.0)
    backaction = backaction_rate(params.g_s, params.omega_s, params, light)
    return Record(
        arrays=dict(
            time=sequence.time - origin,
            mean=np.asarray(seen.displacement.mean),
            stderr=np.asarray(seen.displacement.stderr),
            expected=seen.expected,
            without=np.asarray(still),
        ),
        facts=facts_of(
            made,
            fit={k: float(v) for k, v in dataclasses.asdict(fit).items()},
            origin=origin,
            backaction=float(backaction),
        ),
    )
