"""Spectrum of records without experiment: the real one, and synthetic ones of known lines."""

import h5py
import numpy as np
import pytest

import laboratory
from jaxsde.lab.recordings import RecordError
from jaxsde.lab.records import open_records
from jaxsde.lab.spectrum import analyse_spectrum, spectrum_rows

TWO_PI, DT = 2 * np.pi, 0.4e-6


@pytest.fixture(scope="module")
def real():
    return analyse_spectrum(open_records(laboratory.REAL))


def test_the_three_modes_of_the_real_record(real):
    """Near 61.6, 149.8 and 166.1 kHz by its README; read off a figure, so within 0.3 kHz."""
    centres = [fit.omega[0] / TWO_PI / 1e3 for fit in real.fits]
    np.testing.assert_allclose(centres, [61.6, 149.8, 166.1], atol=0.3)
    for fit in real.fits:
        assert fit.converged and fit.sigma[0] == 0
        assert 400 < fit.gamma[0] / TWO_PI < 1500
        assert 0.4 < fit.chi2 / fit.dof < 2
        assert fit.area[0, 0] > 10 * fit.stderr("area")[0, 0]
    assert real.losses.clipped == real.losses.missing == real.lost == 0
    rows = {row.name: row for row in spectrum_rows(real)}
    assert rows["frequency_2"].value == pytest.approx(149.8, abs=0.3)
    assert rows["frequency_2"].unit == "kHz" and rows["area_1"].unit == "V²"
    assert "sigma_1" not in rows


def test_another_window_gives_the_same_modes(real):
    """Windows half as long: widths and areas agree within 3 of the errors' difference at most."""
    lines = tuple(fit.omega[0] / TWO_PI for fit in real.fits)
    other = analyse_spectrum(open_records(laboratory.REAL), lines=lines, length=4096)
    for a, b in zip(real.fits, other.fits, strict=True):
        for name in ("omega", "gamma"):
            error = np.hypot(a.stderr(name), b.stderr(name))
            assert abs(getattr(a, name) - getattr(b, name)) < 2 * error
        assert a.area[0, 0] == pytest.approx(b.area[0, 0], rel=0.2)


def synthetic(path, shots=1, n=60_000, gap=False):
    """Write a thermal mode of 100 kHz, 1 kHz wide, of mean square 1 V^2, in counts."""
    rng = np.random.default_rng(9)
    omega, gamma = TWO_PI * 100e3, TWO_PI * 1e3
    step, kick = np.exp((-gamma / 2 + 1j * omega) * DT), np.sqrt(2 * (1 - np.exp(-gamma * DT)))
    z = rng.normal(size=shots) + 1j * rng.normal(size=shots)
    x = np.empty((shots, n))
    for t in range(n):
        x[:, t] = z.real
        z = step * z + kick / np.sqrt(2) * (rng.normal(size=shots) + 1j * rng.normal(size=shots))
    x += 1.5 * rng.normal(size=x.shape)
    counts = np.round((x + 0.02) / 1.25e-3).astype(np.int16)
    if gap:
        counts[:, 20_000:20_010] = 32767
    with h5py.File(path, "w") as file:
        file["samples"] = counts[0] if shots == 1 else counts
        file["samples"].attrs.update(
            gain=1.25e-3, offset=0.02, sample_interval_s=DT, units="V after gain and offset"
        )
    return open_records(path)


def test_a_synthetic_record_of_the_same_layout(tmp_path):
    """24 ms: each number within 4 of its errors; two windows see the gap, and are left out."""
    made = analyse_spectrum(synthetic(tmp_path / "a.h5", gap=True))
    (fit,) = made.fits
    assert abs(fit.omega[0] / TWO_PI - 100e3) < 4 * fit.stderr("omega")[0] / TWO_PI
    assert abs(fit.gamma[0] - TWO_PI * 1e3) < 4 * fit.stderr("gamma")[0]
    assert fit.stderr("gamma")[0] < 0.4 * fit.gamma[0]
    assert abs(fit.area[0, 0] - 1) < 4 * fit.stderr("area")[0, 0]
    assert made.losses.clipped == 10 and made.lost == 2
    # White noise: 1.5^2 V^2 over the band of the sampling, and the counts'.
    assert fit.background[0] == pytest.approx(1.5**2 * DT, rel=0.25)


def test_many_shots_give_their_jitter_too(tmp_path):
    made = analyse_spectrum(synthetic(tmp_path / "a.h5", shots=64, n=1024), lines=(100e3,))
    rows = {row.name: row for row in spectrum_rows(made)}
    assert len(made.units) == 64 and made.length == 1024
    assert abs(rows["gamma_1"].value - 1000) < 4 * rows["gamma_1"].error
    assert rows["sigma_1"].value < 700


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(length=8), r"window: wanted from 16 to 250002 samples, got 8"),
        (dict(length=65_536), r"wanted at least 12 windows or shots without a gap, got 6; take"),
        (
            dict(lines=(2e6,)),
            r"--lines: wanted frequencies .* and 1\.25e\+06 Hz, got 2e",
        ),
    ],
)
def test_refusals(options, message):
    with pytest.raises(RecordError, match=message):
        analyse_spectrum(open_records(laboratory.REAL), **options)


def test_noise_has_no_lines(tmp_path):
    path = laboratory.write(tmp_path / "a.h5", laboratory.noise())
    made = analyse_spectrum(open_records(path))
    assert made.fits == () and spectrum_rows(made) == []
