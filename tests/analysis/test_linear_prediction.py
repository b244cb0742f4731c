import numpy as np
import pytest

from jaxsde.analysis.linear_prediction import fit_modes
from jaxsde.physics.params import TWO_PI

DT, NEAR = 1e-6, TWO_PI * 120e3
MODES = np.array([TWO_PI * 117e3 - 1.5e3j, TWO_PI * 122e3 + 5e3j])  # one decays, one grows


def records(shots: int, noise: float, seed: int) -> np.ndarray:
    """Return records of both modes with random amplitudes, and white noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(240) * DT
    amplitude = rng.normal(size=(shots, 2)) + 1j * rng.normal(size=(shots, 2))
    signal = (amplitude @ np.exp(-1j * MODES[:, None] * t)).real
    return signal + noise * rng.normal(size=signal.shape)


def test_modes_without_noise_are_found_to_rounding():
    fit = fit_modes(records(20, 0.0, 1), DT, NEAR, lag=14)
    np.testing.assert_allclose(fit.omega, MODES, rtol=1e-9)


def test_errors_are_those_of_the_scatter_and_noise_does_not_bias():
    fits = [fit_modes(records(100, 0.3, seed), DT, NEAR, lag=14) for seed in range(60)]
    for part in ("real", "imag"):
        found = np.array([getattr(f.omega, part) for f in fits])
        quoted = np.array([getattr(f, f"{part}_stderr") for f in fits])
        scatter = found.std(axis=0, ddof=1)
        bias = (found.mean(axis=0) - getattr(MODES, part)) / scatter * np.sqrt(len(fits))
        # Of 4 numbers: the means known to 1, the ratios to 1/sqrt(120) and what skews them.
        assert np.all(np.abs(bias) < 4)
        assert np.all(np.abs(np.sqrt((quoted**2).mean(axis=0)) / scatter - 1) < 0.5)


def test_instruments_undo_the_bias_that_noise_makes():
    record = records(400, 0.5, 3)
    fit = fit_modes(record, DT, NEAR, lag=14)
    # The same without instruments: noise damps what is predicted.
    index = np.arange(240 - 5 * 14)[:, None] + 14 * np.arange(5)
    taps = record[:, index].reshape(-1, 5)
    plain = np.linalg.lstsq(taps[:, :4], taps[:, 4], rcond=None)[0]
    roots = np.roots(np.concatenate([[1.0], -plain[::-1]]))
    damped = np.log(np.abs(roots)).min() / (14 * DT)
    z = (fit.omega - MODES).imag / fit.imag_stderr
    assert np.all(np.abs(z) < 5)
    assert damped < MODES.imag.min() - 20 * fit.imag_stderr.min()


@pytest.mark.parametrize(
    "shots, lag, wanted",
    [(19, 14, "at least 20 shots"), (20, 40, "lower the lag"), (20, 0, "a lag of 1 or more")],
)
def test_refuses_what_it_cannot_fit(shots, lag, wanted):
    with pytest.raises(ValueError, match=wanted):
        fit_modes(records(shots, 0.1, 0), DT, NEAR, lag=lag)
