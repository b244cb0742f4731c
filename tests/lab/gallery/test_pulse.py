import numpy as np

from jaxsde.lab.gallery.pulse import DELTA, DELTA_PC, NBAR, WINDOW, couplings, spectrogram
from jaxsde.lab.gallery.settings import experiment
from jaxsde.lab.spec import build_sequence


def test_the_coupling_is_that_of_the_probe_at_every_instant():
    made = experiment(delta=DELTA, nbar=NBAR, delta_pc=DELTA_PC)
    p, sequence = made.params, build_sequence(made)
    found = couplings(made, sequence)
    pulse = sequence.span("pulse")
    wanted = 4 * p.g_s * p.g_m * NBAR * DELTA_PC / (p.kappa**2 + DELTA_PC**2)
    np.testing.assert_allclose(found["optical"][pulse], wanted)
    assert wanted > 0
    outside = np.delete(found["optical"], np.arange(pulse.start, pulse.stop))
    np.testing.assert_array_equal(outside, 0)
    np.testing.assert_allclose(found["static"][pulse], 2 * NBAR * p.g_sm)
    np.testing.assert_allclose(found["static"][sequence.span("ringdown")], 8 * p.g_sm)
    ramp = found["omega_m"][sequence.span("ramp_up")]
    steps = np.diff(ramp)
    np.testing.assert_allclose(steps, steps[0])
    np.testing.assert_allclose(found["omega_m"][pulse], p.omega_s + DELTA)


def test_without_coupling_there_is_none():
    made = experiment(nbar=NBAR, delta_pc=DELTA_PC)
    found = couplings(made, build_sequence(made, coupled=False))
    np.testing.assert_array_equal(found["optical"], 0)
    np.testing.assert_allclose(found["omega_m"], made.params.omega_m)


def test_the_spectrogram_of_white_noise_is_its_density_one_sided():
    sequence = build_sequence(experiment())
    rng, dt = np.random.default_rng(4), sequence.sample_interval
    t, f, power = spectrogram(rng.normal(size=(64, sequence.n_samples, 2)), sequence)
    assert power.shape == (f.size, t.size) and np.isclose(t[0], WINDOW / 2)
    inside = (f > 50e3) & (f < 900e3)
    # Variance 1 in each of two: 2 dt each; 64 shots of some 20 windows, many bins.
    np.testing.assert_allclose(power[inside].mean(), 4 * dt, rtol=0.02)


def test_the_spectrogram_finds_a_line_where_and_when_it_is():
    sequence = build_sequence(experiment())
    time = sequence.time
    line = np.where(time > 300e-6, np.cos(2 * np.pi * 110e3 * time), 0.0)
    t, f, power = spectrogram(np.stack([line, line], axis=-1)[None], sequence)
    assert abs(f[power[:, t > 350e-6].sum(axis=1).argmax()] - 110e3) < 5e3
    assert power[:, t < 250e-6].max() < 1e-6 * power.max()
