"""Lines: their exact periodograms, and fits that are unbiased with errors that cover."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxsde.analysis import lines
from jaxsde.analysis.spectra import hann, welch

DT, N, TWO_PI = 1e-6, 1024, 2 * np.pi
OMEGA, GAMMA, SIGMA, AREA, WHITE = TWO_PI * 95e3, TWO_PI * 1e3, TWO_PI * 1.2e3, 2.0, 2e-5
WINDOW = np.asarray(hann(N))
BAND = (83e3, 107e3)


def shots(count, seed, sigma=SIGMA):
    """Return records of a damped oscillator in thermal motion, of jittered frequency, and noise."""
    rng = np.random.default_rng(seed)
    omega = OMEGA + sigma * rng.normal(size=count)
    step = np.exp((-GAMMA / 2 - 1j * omega) * DT)
    kick = np.sqrt(AREA * (1 - np.exp(-GAMMA * DT)))
    z = np.sqrt(AREA / 2) * (rng.normal(size=count) + 1j * rng.normal(size=count))
    out = np.empty((count, N))
    noise = rng.normal(size=(N, 2, count)) / np.sqrt(2)
    for t in range(N):
        out[:, t] = z.real
        z = step * z + kick * (noise[t, 0] + 1j * noise[t, 1])
    return out + np.sqrt(WHITE / DT) * rng.normal(size=out.shape)


def units(count, seed, **options):
    record = jnp.asarray(shots(count, seed, **options))[..., None]
    return np.asarray(welch(record, jnp.asarray(WINDOW), N, DT))[:, None, :, 0]


def test_a_lines_periodogram_is_the_sum_over_its_covariance():
    n, omega, gamma, s = 64, TWO_PI * 95e3, 3e4, 2e8
    window = np.hanning(n + 2)[1:-1]
    t = np.arange(n) * DT
    tau = t[:, None] - t[None]
    r = np.exp(-gamma * np.abs(tau) / 2 - s * tau**2 / 2) * np.cos(omega * tau)
    f = np.fft.rfftfreq(n, DT)
    waves = window * np.exp(-2j * np.pi * f[:, None] * t)
    slow = np.einsum("ft,ts,fs->f", waves, r, waves.conj()).real * DT / np.sum(window**2)
    got = lines.line_periodogram(
        jnp.array([omega]), jnp.array([gamma]), jnp.array([s]), window, DT
    )[0]
    np.testing.assert_allclose(got, slow, rtol=1e-9, atol=1e-12 * slow.max())


def test_a_long_window_shows_scipys_voigt_profile():
    """Within the resolution's square and the window's leakage, here a per cent."""
    n = 2**14
    got = lines.line_periodogram(
        jnp.array([OMEGA]), jnp.array([GAMMA]), jnp.array([SIGMA**2]), np.asarray(hann(n)), DT
    )[0]
    f = np.fft.rfftfreq(n, DT)
    near = np.abs(f - 95e3) < 4e3
    voigt = scipy.special.voigt_profile(TWO_PI * f - OMEGA, SIGMA, GAMMA / 2) * TWO_PI / 2
    np.testing.assert_allclose(np.asarray(got)[near], voigt[near], rtol=0.01)


@pytest.fixture(scope="module")
def fits():
    out = []
    for seed in range(24):
        start = np.array([OMEGA + TWO_PI * 500])
        out.append(lines.fit_lines(units(300, seed), WINDOW, DT, start, BAND))
    return out


def test_fits_are_unbiased_and_their_errors_cover(fits):
    """24 sets of 300 shots: means of z within 3/sqrt(24), their rms within 3 sqrt(1/48) of 1.

    A window of a hundred cycles is as wide as the line: a fit of the bare profile would find
    gamma larger by that.
    """
    assert all(fit.converged and not fit.at_bound.any() for fit in fits)
    truth = dict(omega=OMEGA, gamma=GAMMA, sigma_squared=SIGMA**2, area=AREA / 2)
    for name, true in truth.items():
        value = np.array([np.ravel(getattr(fit, name))[0] for fit in fits])
        error = np.array([np.ravel(fit.stderr(name))[0] for fit in fits])
        z = (value - true) / error
        assert abs(z.mean()) < 3 / np.sqrt(len(z)), name
        assert abs(np.sqrt(np.mean(z**2)) - 1) < 3 * np.sqrt(0.5 / len(z)), name
    chi2 = np.array([fit.chi2 / fit.dof for fit in fits])
    assert 0.7 < chi2.mean() < 1.3


def test_a_line_without_jitter_has_its_sigma_at_the_bound_or_small():
    fit = lines.fit_lines(units(150, 99, sigma=0.0), WINDOW, DT, np.array([OMEGA]), BAND)
    assert fit.sigma_squared[0] < 3 * max(fit.stderr("sigma_squared")[0], (TWO_PI * 300) ** 2)
    held = lines.fit_lines(
        units(150, 99, sigma=0.0), WINDOW, DT, np.array([OMEGA]), BAND, fixed_sigma=True
    )
    assert held.sigma[0] == 0 and held.at_bound[0, 1]
    assert abs(held.gamma[0] - GAMMA) < 4 * held.stderr("gamma")[0]


def test_lines_are_found_and_noise_is_not():
    f = np.fft.rfftfreq(4096, DT)
    density = 1e-9 * (1 + 3e4 / (f + 1e3))
    for centre in (61e3, 150e3):
        density = density + 1e-7 / (1 + ((f - centre) / 500) ** 2)
    density = density * np.random.default_rng(0).gamma(60, 1 / 60, f.size)
    found = lines.find_lines(f, density)
    np.testing.assert_allclose(found, [61e3, 150e3], atol=400)
    np.testing.assert_allclose(lines.find_lines(f, density, band=(100e3, 200e3)), [150e3], atol=400)
    assert lines.find_lines(f, density, prominence=40.0).size == 0


@pytest.mark.parametrize(
    "count, band, message",
    [
        (5, BAND, r"^units: wanted at least 12 shots or windows for an error, got 5"),
        (20, (94e3, 96e3), r"^band: wanted at least \d+ bins between 94000 and 96000 Hz, got 2;"),
    ],
)
def test_refusals(count, band, message):
    with pytest.raises(ValueError, match=message):
        lines.fit_lines(np.ones((count, 1, N // 2 + 1)), WINDOW, DT, np.array([OMEGA]), band)
