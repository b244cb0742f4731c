"""The state conditioned on a homodyne record: the engine's own Step against QuTiP's trajectories.

QuTiP solves the stochastic master equation in Fock space, at small occupation.  Its record goes
through a textbook Kalman filter on the Step that moves the engine's shots.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import oracles_quantum as quantum
from jaxsde.engine.detect import Detector, independent_noise
from jaxsde.engine.plan import segment_readout, segments, transitions
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.step import make_step
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Controls, Sequence, Stage

INTERVAL = 0.02
SYSTEM = dict(omega_m=0.8, kappa=1.0, g_m=0.1, gamma_m=0.2, n_bath=0.2)
PROBE = dict(nbar=4.0, delta_pc=-0.5)
RECEIVER = dict(efficiency=0.8, angle=1.1)
SEEN = np.array([0, 1, 4, 5])  # motion and cavity; the spin is left alone


def step_of(system, probe, receiver):
    """Return (A, L, C, N) of the engine for one interval."""
    params = Params(**system, omega_s=1.0, g_s=0.0, epsilon=1.0)
    detector = Detector.homodyne(
        receiver["angle"],
        efficiency=receiver["efficiency"],
        collection=1.0,
        S_SN=1.0,
        sample_interval=INTERVAL,
    )
    stage = Stage(name="probe", n_samples=1, controls=Controls(**probe))
    sequence = Sequence(stages=(stage,), sample_interval=INTERVAL)
    resolution = choose_resolution(params, sequence)
    (segment,) = segments(params, sequence, resolution)
    made = transitions(params, segment, jnp.zeros((1, 2)), INTERVAL, resolution, "input_output")
    readout = segment_readout(params, segment, detector)
    noise = independent_noise(detector)
    return make_step(made.A[0, :, :6], made.Q[0], readout, noise, INTERVAL, jnp.dtype(jnp.float64))


def rms(values):
    return np.sqrt(np.mean(values**2, axis=0))


@pytest.fixture(scope="module")
def trajectory():
    pytest.importorskip("qutip")
    return quantum.qutip_homodyne(
        11, **SYSTEM, **PROBE, **RECEIVER, n_m0=0.2, interval=INTERVAL, intervals=2000, substeps=2
    )


def conditioned(trajectory, step):
    """Return conditional means and covariances of motion and cavity."""
    mean0, cov0 = np.zeros(6), np.eye(6)
    mean0[SEEN] = trajectory.mean0
    cov0[np.ix_(SEEN, SEEN)] = trajectory.cov0
    parts = tuple(np.asarray(getattr(step, name)) for name in "ALCN")
    means, covs, _ = quantum.kalman_filter(parts, trajectory.record, mean0, cov0)
    return means[:, SEEN], covs[:, SEEN][:, :, SEEN]


def deviation(trajectory, step):
    means, _ = conditioned(trajectory, step)
    return rms(means - trajectory.mean) / rms(trajectory.mean)


@pytest.mark.slow
def test_conditional_means_and_covariances_are_those_of_the_master_equation(trajectory):
    step = step_of(SYSTEM, PROBE, RECEIVER)
    means, covs = conditioned(trajectory, step)
    # QuTiP's own steps and truncation leave half a per cent.
    assert (rms(means - trajectory.mean) < 0.02 * rms(trajectory.mean)).all()
    np.testing.assert_allclose(covs, trajectory.covariance, rtol=0, atol=4e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [dict(angle=-1.1), dict(delta_pc=0.5), dict(g_m=0.11), dict(efficiency=0.7)],
    ids=str,
)
def test_a_wrong_step_is_seen(trajectory, wrong):
    changed = ({**part, **{k: v for k, v in wrong.items() if k in part}}
               for part in (SYSTEM, PROBE, RECEIVER))  # fmt: skip
    right = deviation(trajectory, step_of(SYSTEM, PROBE, RECEIVER))
    assert (deviation(trajectory, step_of(*changed)) > 1.5 * right).all()


@pytest.mark.slow
def test_forgetting_that_the_noise_is_shared_is_seen(trajectory):
    """Back-action and imprecision from independent noise of the same sizes."""
    step = step_of(SYSTEM, PROBE, RECEIVER)
    n, k = step.L.shape[0], step.N.shape[0]
    apart = np.sqrt(np.sum(np.asarray(step.N) ** 2, axis=1))
    split = dataclasses.replace(
        step,
        L=jnp.concatenate([step.L, jnp.zeros((n, k))], axis=1),
        N=jnp.concatenate([jnp.zeros_like(step.N), jnp.diag(jnp.asarray(apart))], axis=1),
    )
    assert (deviation(trajectory, split) > 0.2).all()
