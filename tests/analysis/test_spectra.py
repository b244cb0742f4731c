import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import jaxsde
import light
from jaxsde.analysis.spectra import frequencies, hann, spectrogram, welch
from jaxsde.engine.detect import Detector
from jaxsde.engine.records import record_covariance
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.spectrum import expected_periodogram, sampled_density
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence

# --- the estimate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("length, hop", [(16, 8), (15, 15), (40, 1), (32, 5)])
def test_welch_is_scipys(length, hop):
    rng, dt = np.random.default_rng(length), 0.5e-6
    record = rng.normal(size=(3, 40, 2))
    window = np.asarray(hann(length))
    np.testing.assert_allclose(window, scipy.signal.get_window("hann", length), atol=1e-15)
    f, expected = scipy.signal.welch(
        record, 1 / dt, window, nperseg=length, noverlap=length - hop, detrend=False,
        return_onesided=False, axis=1,
    )  # fmt: skip
    got = welch(jnp.asarray(record), jnp.asarray(window), hop, dt)
    half = length // 2 + 1
    np.testing.assert_allclose(got, expected[:, :half], rtol=1e-10)
    np.testing.assert_allclose(frequencies(length, dt), np.abs(f[:half]), rtol=1e-12)


def test_welch_of_white_noise_is_its_density():
    """Two-sided: variance times dt.  1e5 samples, 100 shots of 10 windows: 1 in 30 for each bin."""
    rng, dt = np.random.default_rng(1), 2e-6
    record = 3.0 * rng.normal(size=(100, 1000, 1))
    got = np.asarray(welch(jnp.asarray(record), jnp.ones(100), 100, dt))[..., 0]
    z = (got.mean(axis=0) - 9 * dt) / (got.std(axis=0, ddof=1) / 10)
    assert np.abs(z).max() < 4.5
    narrow = welch(jnp.asarray(record, jnp.float32), hann(100), 50, dt)
    assert narrow.dtype == jnp.float32
    wide = welch(jnp.asarray(record), hann(100), 50, dt)
    np.testing.assert_allclose(narrow, wide, rtol=1e-3, atol=1e-5 * 9 * dt)


@pytest.mark.parametrize("hop", [0, -1])
def test_welch_refuses_hops_that_do_not_go_on(hop):
    with pytest.raises(ValueError, match=r"^hop: wanted an integer of at least 1, got "):
        welch(jnp.zeros((1, 8, 1)), hann(4), hop, 1.0)


def test_welch_refuses_short_records():
    message = r"^record: wanted at least the 9 samples of the window, got 8; shorten the window$"
    with pytest.raises(ValueError, match=message):
        welch(jnp.zeros((1, 8, 1)), hann(9), 1, 1.0)


# --- stationary shots against theory --------------------------------------------------------------

DT, LENGTH, N_SHOTS = 1e-6, 256, 3000
PARAMS, CONTROLS = light.NARROW, light.COOLING
SEQUENCE = light.settled(CONTROLS, 2 * LENGTH, 600, DT)  # 600 us: e^-18 of the slowest is left
FIELDS = dict(efficiency=0.9, collection=1.0, sample_interval=DT)
RECEIVERS = {
    "adiabatic": Detector(**FIELDS),
    "heterodyne": Detector(**FIELDS, model="input_output"),
    "phase": Detector.homodyne(**FIELDS),
    "between": Detector.homodyne(0.7, **FIELDS),
}


@functools.cache
def shots_of(name):
    return jaxsde.simulate(jax.random.key(8), PARAMS, SEQUENCE, RECEIVERS[name], N_SHOTS)


def z_of_bins(estimate, theory):
    """Return (mean over shots - theory)/standard error of every bin, by the shots' own scatter."""
    each = np.asarray(estimate, float)
    return (each.mean(axis=0) - theory) / (each.std(axis=0, ddof=1) / np.sqrt(len(each)))


def convolved(name, controls, window):
    """Return the analytic sampled density seen through a window, without expected_periodogram.

    r(tau) by a Fourier transform over 8,192 frequencies, then dt sum_tau r(tau) (w * w)(tau)
    exp(-2 pi i f tau)/sum w^2.
    """
    grid = np.fft.fftfreq(8192, DT)
    density = sampled_density(PARAMS, controls, RECEIVERS[name], jnp.asarray(grid))
    own = np.einsum("fkk->fk", np.asarray(density)).real
    r = np.fft.ifft(own, axis=0).real[: len(window)] / DT
    overlap = np.correlate(window, window, "full")[len(window) - 1 :]
    f = frequencies(len(window), DT)
    turn = np.cos(TWO_PI * f[:, None] * np.arange(len(window)) * DT)
    turn[:, 1:] *= 2
    return DT * np.einsum("ft,t,tk->fk", turn, overlap, r) / (window**2).sum()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECEIVERS)
def test_stationary_shots_have_the_density_of_theory(name):
    """3,000 shots, Hann windows of 256 us (bins of 3.9 kHz), in all 129 bins of each quadrature.

    Standard error near 1.2 % in a bin; |z| < 4.5 in every one (1 in 600 by chance) and rms z near
    1: neighbours share a window, so that 129 bins are worth some 66.
    """
    window = np.asarray(hann(LENGTH))
    record = shots_of(name).record[:, SEQUENCE.span("record")]
    each = welch(record, hann(LENGTH), LENGTH // 2, DT)
    r = record_covariance(
        PARAMS, SEQUENCE, RECEIVERS[name], choose_resolution(PARAMS, SEQUENCE), nodes=(1, 1),
        first_stage=1,
    )  # fmt: skip
    exact = np.asarray(expected_periodogram(r, hann(LENGTH), LENGTH // 2, DT))
    theory = convolved(name, CONTROLS, window)
    np.testing.assert_allclose(exact, theory, rtol=1e-6)
    z = z_of_bins(each, theory)
    assert np.abs(z).max() < 4.5, np.abs(z).max()
    worth = z.size / (1 + 2 * (2 / 3) ** 2 + 2 * (1 / 6) ** 2)
    assert abs((z**2).mean() - 1) < 4 * np.sqrt(2 / worth)
    # Bins in and around both lines, where there is most to be wrong.
    f = frequencies(LENGTH, DT)
    lines = z[(f > 60e3) & (f < 220e3)]
    assert abs((lines**2).mean() - 1) < 4 * np.sqrt(2 / (lines.size / 1.94))
    # Other receivers' theories are refused.
    if name != "adiabatic":
        other = convolved("between" if name == "phase" else "adiabatic", CONTROLS, window)
        assert np.abs(z_of_bins(each, other[:, -1:] if name != "heterodyne" else other)).max() > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["heterodyne", "between"])
def test_long_windows_show_the_sampled_density_itself(name):
    """600 shots of 2,048 us: bins of 0.5 kHz, lines of 10 kHz, leakage below a third of an error.

    615 bins from 50 to 350 kHz in each quadrature, |z| < 5 (1 in 1,400), rms near 1.
    """
    n = 2048
    sequence = light.settled(CONTROLS, n, 600, DT)
    detector = RECEIVERS[name]
    shots = jaxsde.simulate(jax.random.key(9), PARAMS, sequence, detector, 600)
    each = np.asarray(welch(shots.record[:, sequence.span("record")], hann(n), n, DT))
    f = frequencies(n, DT)
    theory = sampled_density(PARAMS, CONTROLS, detector, jnp.asarray(f))
    theory = np.einsum("fkk->fk", np.asarray(theory)).real
    band = (f > 50e3) & (f < 350e3)
    z = z_of_bins(each, theory)[band]
    leak = (convolved(name, CONTROLS, np.asarray(hann(n))) - theory)[band]
    assert np.abs(leak / (theory[band] / np.sqrt(600))).max() < 1 / 3
    assert np.abs(z).max() < 5, np.abs(z).max()
    assert abs((z**2).mean() - 1) < 4 * np.sqrt(2 / (z.size / 1.94)) + 0.05


# --- a record that grows --------------------------------------------------------------------------


@pytest.mark.slow
def test_growing_shots_have_the_expected_periodogram():
    """The unstable pulse for 128 us: <D^2> grows by e^5; windows of 64 us, 3,000 shots.

    65 bins of I and Q, |z| < 4.5 (1 in 1,100), rms near 1.  The powers are those of a few modes,
    and bins of one line rise and fall together.
    """
    params = jaxsde.Params.kohler2018(B_s=0.0)
    pulse = Controls(nbar=10.0, delta_pc=TWO_PI * -2e6, omega_m=TWO_PI * 125.5e3)
    dt, length = 0.5e-6, 128
    sequence = Sequence(stages=(light.stage(pulse, 256),), sample_interval=dt)
    detector = Detector(efficiency=0.9, collection=1.0, model="input_output")
    shots = jaxsde.simulate(jax.random.key(10), params, sequence, detector, N_SHOTS)
    each = welch(shots.record, hann(length), length // 2, dt)
    args = params, sequence, detector, choose_resolution(params, sequence)
    r = record_covariance(*args)
    theory = np.asarray(expected_periodogram(r, hann(length), length // 2, dt))
    z = z_of_bins(each, theory)
    assert np.abs(z).max() < 4.5, np.abs(z).max()
    far = z[frequencies(length, dt) > 250e3]
    assert abs((far**2).mean() - 1) < 4 * np.sqrt(2 / (far.size / 1.94))
    assert theory.max() > 20 * detector.S_SN / 2
    # The same shots refuse the theory of independent shot noise.
    other = dataclasses.replace(detector, model="adiabatic")
    r = record_covariance(params, sequence, other, args[-1])
    wrong = np.asarray(expected_periodogram(r, hann(length), length // 2, dt))
    shift = z_of_bins(each, wrong) - z
    along = (shift / np.linalg.norm(shift)).ravel()
    bins = np.asarray(each, float).reshape(len(each), -1)
    spread = np.sqrt(along @ np.corrcoef(bins.T) @ along)  # of z along the shift, 1.3
    assert abs(along @ z.ravel()) < 4.5 * spread < along @ (z + shift).ravel()


def test_spectrogram_is_scipys():
    x = np.random.default_rng(8).normal(size=(3, 100, 2))
    window = hann(32)
    got = spectrogram(jnp.asarray(x), window, 8, 1e-6)
    _, _, expected = scipy.signal.spectrogram(
        x,
        fs=1e6,
        window=np.asarray(window),
        noverlap=24,
        detrend=False,
        axis=1,
        return_onesided=False,
    )
    expected = np.moveaxis(expected.mean(axis=0), -1, 0)[:, :17]
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    with pytest.raises(ValueError, match=r"^hop: wanted an integer of at least 1, got 0"):
        spectrogram(jnp.asarray(x), window, 0, 1e-6)
    with pytest.raises(ValueError, match=r"^record: wanted at least the 32 samples of the window"):
        spectrogram(jnp.asarray(x[:, :20]), window, 8, 1e-6)
