"""A tiny experiment that the tests of this floor share, so that they share compiled programs."""

import dataclasses
import functools

import jax
import numpy as np

import jaxsde
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage

# Frequencies that jitter by more than the paper's, so that it counts in a short record.
PARAMS = jaxsde.Params.kohler2018(sigma_m=TWO_PI * 2e3, sigma_s=TWO_PI * 1.5e3, B_s=1.5e5)
DETECTOR = jaxsde.Detector(efficiency=0.5, sample_interval=1e-6)
FREE = ("g_m", "g_s", "B_s")
TRUTH = np.array([getattr(PARAMS, name) for name in FREE])
OFF = dataclasses.replace(PARAMS, g_m=1.3 * PARAMS.g_m, g_s=0.7 * PARAMS.g_s, B_s=1.3 * PARAMS.B_s)


def sequence(params=PARAMS, pulse=40, ringdown=80):
    """Return a pulse and a ringdown; omega_m at rest is params'."""
    up = TWO_PI * 125.5e3
    stages = (
        Stage(
            name="pulse",
            n_samples=pulse,
            controls=Controls(nbar=10.0, delta_pc=TWO_PI * -2e6, omega_m=up, B_s=0.0),
        ),
        Stage(
            name="ringdown",
            n_samples=ringdown,
            controls=Controls(nbar=4.0, omega_m=params.omega_m),
        ),
    )
    return Sequence(stages=stages, sample_interval=1e-6)


SEQUENCE = sequence()


@functools.cache
def shots(n=100, seed=1):
    """Return shots of the tiny experiment."""
    return jaxsde.simulate(jax.random.key(seed), PARAMS, SEQUENCE, DETECTOR, n)


calibrate = functools.partial(jaxsde.calibrate, sequence=SEQUENCE, detector=DETECTOR)


@functools.cache
def fit(objective="likelihood", seed=1):
    """Return the calibration of `shots` from 30 % off."""
    key = jax.random.key(900 + seed) if objective == "pathwise" else None
    return calibrate(
        OFF, shots(100, seed), FREE, objective=objective, key=key, n_simulated=1024, windows=2
    )
