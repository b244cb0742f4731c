"""Sideband thermometry against simulated motion of known occupation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde as js
from jaxsde.analysis.moments import occupations
from jaxsde.analysis.spectra import hann
from jaxsde.analysis.thermometry import sideband_periodograms, sideband_thermometry
from jaxsde.engine.detect import detection_gain

DT, N, SHOTS = 1e-6, 1024, 600
PARAMS = js.Params.kohler2018(g_s=0.0, g_sm=0.0, sigma_m=0.0, sigma_s=0.0, B_s=0.0)
DETECTOR = js.Detector(model="input_output", efficiency=1.0, collection=1.0, sample_interval=DT)
LIGHT = js.Controls(nbar=4.0)


@pytest.fixture(scope="module")
def motion():
    """Return (steady occupation, records of motion that starts with it)."""
    long = js.Sequence(
        stages=(js.Stage(name="m", n_samples=3000, controls=LIGHT),), sample_interval=DT
    )
    n = float(occupations(js.covariance(PARAMS, long)[-1, :4, :4])[0])
    params = dataclasses.replace(PARAMS, n_m0=n)
    stage = js.Stage(name="m", n_samples=N, controls=LIGHT)
    sequence = js.Sequence(stages=(stage,), sample_interval=DT)
    shots = js.simulate(jax.random.key(4), params, sequence, DETECTOR, SHOTS)
    return n, shots.record


def test_periodograms_are_the_sidebands_of_theory(motion):
    """30 bins at once, correlated over 1.5 bins: 4 standard errors and 2 % for the window."""
    _, record = motion
    window = np.asarray(hann(N))
    units = sideband_periodograms(record, window, DT)
    f = np.fft.rfftfreq(N, DT)
    near = np.abs(f - 110e3) < 8e3  # beside the line, where the window does not matter
    theory = js.sidebands(js.sampled_density(PARAMS, LIGHT, DETECTOR, jnp.asarray(f[near])))
    for k in (0, 1):
        part = (units[:, k][:, near] / np.asarray(theory[k])).mean(axis=1)
        assert abs(part.mean() - 1) < 4 * part.std(ddof=1) / np.sqrt(SHOTS) + 0.02
    record = np.asarray(record)
    fourier = np.fft.fft((record[..., 0] - 1j * record[..., 1]) * window, axis=1)
    slow = np.abs(fourier) ** 2 * DT / np.sum(window**2)
    np.testing.assert_allclose(units[:, 1, 5], slow[:, 5], rtol=1e-9)
    np.testing.assert_allclose(units[:, 0, 5], slow[:, -5], rtol=1e-9)


def test_the_occupation_is_the_truth_and_the_quantum_calibrates(motion):
    """One set of 600 shots: 4 standard errors, which are 8 % of n; swapped sidebands give n < 0."""
    n, record = motion
    window = np.asarray(hann(N))
    units = sideband_periodograms(record, window, DT)
    made = sideband_thermometry(units, window, DT, PARAMS.omega_m, (80e3, 110e3))
    assert made.fit.converged
    assert made.n_stderr < 0.15 * n
    assert abs(made.n - n) < 4 * made.n_stderr
    # Samples are averages: the line loses (omega dt)^2/12 of its power.
    loss = 1 - (PARAMS.omega_m * DT) ** 2 / 12
    quantum = float(detection_gain(PARAMS, LIGHT, DETECTOR) * PARAMS.g_m) ** 2 * loss
    assert abs(made.quantum - quantum) < 4 * made.quantum_stderr
    assert abs(made.fit.gamma[0] - PARAMS.gamma_m) < 4 * made.fit.stderr("gamma")[0]
    turned = sideband_thermometry(units[:, ::-1], window, DT, PARAMS.omega_m, (80e3, 110e3))
    assert turned.n == pytest.approx(-1 - made.n, rel=1e-3)


def test_one_quadrature_is_refused():
    with pytest.raises(ValueError, match=r"^record: wanted I and Q .* got \(3, 64, 1\)"):
        sideband_periodograms(jnp.zeros((3, 64, 1)), np.ones(64), DT)
