"""Normal modes of Eq. 1 against detuning, for both signs of the spin's mass (Figs. 1a and 1b)."""

import dataclasses

import numpy as np

from jaxsde.analysis.linear_prediction import fit_modes
from jaxsde.engine.detect import Detector
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.gallery.settings import (
    KHZ,
    RED,
    Settings,
    Tell,
    experiment,
    facts_of,
    shots_of,
    simulated,
)
from jaxsde.lab.spec import StageSpec, build_sequence
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Controls
from jaxsde.physics.theory import spring_coupling, two_mode_frequencies

OMEGA_0 = 120 * KHZ
NBAR = 4.0
# Light on resonance couples nothing: the static coupling alone makes the spring of Eq. 1.
LENGTH, INTERVAL, LAG = 200e-6, 1e-6, 14
DELTAS = np.arange(-20, 20.1, 2.0) * KHZ
SIGNS = (1.0, -1.0)


def spring() -> float:
    """Return the net spring of the paper's Fig. 3c, rad/s: at nbar = 10, Delta_pc = -2.0 MHz."""
    controls = Controls(nbar=10.0, delta_pc=RED)
    return float(spring_coupling(Params.kohler2018(), controls))


def coupled_pair(epsilon: float, delta: float) -> Params:
    """Return the two oscillators of Eq. 1 at omega_0 +- delta/2, without loss, bath or jitter."""
    return Params.kohler2018(
        omega_m=OMEGA_0 + delta / 2,
        omega_s=OMEGA_0 - delta / 2,
        g_m=10 * KHZ,
        g_s=0.0,
        g_sm=spring() / (2 * NBAR),
        gamma_m=0.0,
        sigma_m=0.0,
        sigma_s=0.0,
        B_s=0.0,
        epsilon=epsilon,
        n_m0=10.0,
        n_s0=10.0,
    )


def make_modes(settings: Settings, tell: Tell) -> Record:
    """Simulate coupled pairs and read their modes' complex frequencies off the records of D."""
    base, found = None, []
    omega = spring()
    for k, epsilon in enumerate(SIGNS):
        for i, delta in enumerate(DELTAS):
            base = dataclasses.replace(
                experiment(params=coupled_pair(epsilon, delta), shots=shots_of(settings, "modes")),
                detector=Detector.ideal(INTERVAL),
                stages=(StageSpec(name="coupled", duration=LENGTH, nbar=NBAR),),
                seed=settings.seed,
            )
            base = dataclasses.replace(
                base, analysis=dataclasses.replace(base.analysis, pulse=None, fit_window=None)
            )
            index = k * DELTAS.size + i
            shots = simulated(settings, "modes", index, base, build_sequence(base))
            record = np.asarray(shots.record[..., 0], float)
            found.append(fit_modes(record, INTERVAL, OMEGA_0, lag=LAG))
            tell(index + 1, 2 * DELTAS.size)
    assert base is not None
    fine = np.linspace(DELTAS[0], DELTAS[-1], 401)
    lines, theory = (
        [np.stack(two_mode_frequencies(OMEGA_0, x, omega, e), -1) for e in SIGNS]
        for x in (fine, DELTAS)
    )
    shape = (len(SIGNS), DELTAS.size, 2)
    modes = np.stack([fit.omega for fit in found]).reshape(shape)
    errors = [np.stack([getattr(f, n) for f in found]) for n in ("real_stderr", "imag_stderr")]
    return Record(
        arrays=dict(
            delta=DELTAS,
            real=np.real(modes) - OMEGA_0,
            imag=np.imag(modes),
            real_error=errors[0].reshape(shape),
            imag_error=errors[1].reshape(shape),
            theory_real=np.real(theory) - OMEGA_0,
            theory_imag=np.imag(theory),
            fine_delta=fine,
            fine_real=np.real(lines) - OMEGA_0,
            fine_imag=np.imag(lines),
        ),
        facts=facts_of(base, omega_0=OMEGA_0, spring=omega, lag=LAG * INTERVAL),
    )
