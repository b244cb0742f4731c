"""What tests of moving stages share: mean field and moments by integration, in one fixed frame.

With switching the frame is the drive's, in which |E| > 0: alpha' = (-kappa + i Delta) alpha + |E|,
and the fluctuations follow from H = (alpha* c + alpha c^dag) D + |alpha|^2 g_sm Z_m Z_s.
"""

import itertools

import numpy as np
from scipy.integrate import solve_ivp

import oracles
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage
from light import baths, start, system

STILL = Params.kohler2018(sigma_m=0.0, sigma_s=0.0)
DT = 0.5e-6
REST, UP = TWO_PI * 95e3, TWO_PI * 125.5e3
RED = TWO_PI * -2.0e6


def sequence_of(*parts, dt=DT, switching=None):
    """Return a sequence of (n_samples, controls) each."""
    stages = tuple(
        Stage(name=f"stage {i}", n_samples=n, controls=c) for i, (n, c) in enumerate(parts)
    )
    return Sequence(stages=stages, sample_interval=dt, switching=switching)


def deviation(got, expected):
    """Return the largest error of covariances, in units of their standard deviations."""
    s = np.sqrt(np.diagonal(expected, axis1=-2, axis2=-1))
    return np.abs((np.asarray(got) - expected) / (s[..., :, None] * s[..., None, :])).max()


def diffusion(params, controls):
    """Return the diffusion of a stage."""
    n_bath, b_s = baths(params, controls)
    return oracles.diffusion(gamma_m=params.gamma_m, n_bath=n_bath, b_s=b_s, kappa=params.kappa)


def instant(params, sequence, p0=None):
    """Return the covariance at the end of every stage, the mean field being there at once."""
    stages = [
        (
            stage.n_samples * sequence.sample_interval,
            lambda f, c=stage.controls: oracles.hamiltonian_drift(**system(params, c, f)),
            diffusion(params, stage.controls),
        )
        for stage in sequence.stages
    ]
    return np.array(oracles.moment_ode(stages, start(params) if p0 is None else p0))


def drive(params, controls, f):
    """Return |E| that holds the photons a stage asks for at the fraction f."""
    now = system(params, controls, f)
    return np.sqrt(now["nbar"] * (now["kappa"] ** 2 + now["delta_pc"] ** 2))


def to_stage(params, controls, alpha):
    """Return a field of the fixed frame in the reference in which a stage's target is real."""
    return alpha * np.exp(-1j * np.arctan2(system(params, controls, 1.0)["delta_pc"], params.kappa))


def mean_field(params, sequence):
    """Return for every stage its pieces (start, end, alpha(t)), t in s since the stage began."""
    rise, stages, old, alpha = float(sequence.switching.rise_time), [], None, None
    for stage in sequence.stages:
        controls, length = stage.controls, stage.n_samples * sequence.sample_interval
        if old is None:
            old = drive(params, controls, 0.0)
            alpha = old / (params.kappa - 1j * system(params, controls, 0.0)["delta_pc"])

        def driven(t, controls=controls, length=length, old=old):
            share = 1.0 if t >= rise else (1 - np.cos(np.pi * t / rise)) / 2
            return old + (drive(params, controls, t / length) - old) * share

        def rhs(t, y, controls=controls, length=length, driven=driven):
            delta = system(params, controls, t / length)["delta_pc"]
            return (-params.kappa + 1j * delta) * y + driven(t)

        # Where the drive has risen its curvature jumps.
        cuts, pieces = sorted({0.0, min(rise, length), length}), []
        for first, last in itertools.pairwise(cuts):
            found = solve_ivp(
                rhs, (first, last), np.array([alpha], complex),
                method="DOP853", rtol=1e-13, atol=1e-13, dense_output=True,
            )  # fmt: skip
            alpha = found.y[0, -1]
            pieces.append((first, last, lambda t, sol=found.sol: sol(t)[0]))
        stages.append(pieces)
        old = driven(length)
    return stages


def switched(params, sequence):
    """Return the covariance at the end of every stage, cavity in that stage's phase reference."""
    p, ends = start(params), []
    for stage, pieces in zip(sequence.stages, mean_field(params, sequence), strict=True):
        controls, length = stage.controls, stage.n_samples * sequence.sample_interval
        for first, last, alpha in pieces:

            def drift(f, first=first, last=last, alpha=alpha, controls=controls, length=length):
                t = first + (last - first) * f
                field, now = alpha(t), system(params, controls, t / length)
                now |= dict(nbar=abs(field) ** 2, phase=np.angle(field))
                return oracles.hamiltonian_drift(**now)

            (p,) = oracles.moment_ode([(last - first, drift, diffusion(params, controls))], p)
        turn = to_stage(params, controls, 1.0)
        ladder = np.diag([1, 1, 1, 1, turn, turn.conjugate()])
        turned = (oracles.T @ ladder @ np.linalg.inv(oracles.T)).real
        ends.append(turned @ p @ turned.T)
    return np.array(ends)


# Stages of every kind: still, a switch, one that ends before the field has settled, a ramp of all
# three controls together, still.
EVERY_KIND = (
    (4, Controls(nbar=1.0)),
    (8, Controls(nbar=40.0, delta_pc=RED, omega_m=UP)),
    (2, Controls(nbar=3.0, delta_pc=TWO_PI * 1.4e6, omega_m=UP)),
    (6, Controls(nbar=(2.0, 8.0), delta_pc=(TWO_PI * -1e6, TWO_PI * -1.5e6), omega_m=(UP, REST))),
    (8, Controls(nbar=4.0)),
)
