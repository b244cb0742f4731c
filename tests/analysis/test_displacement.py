import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import ensembles
import jaxsde
from ensembles import DETECTOR, PARAMS, SEQUENCE, displacement_covariance
from jaxsde.analysis.filters import undo_box_average
from jaxsde.engine.detect import noise_variance, quadrature_gains
from jaxsde.engine.resolution import choose_resolution
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage

DT = 0.5e-6
PULSE = Controls(nbar=10.0, delta_pc=TWO_PI * -2.0e6, omega_m=TWO_PI * 125.5e3)
SHORT = Sequence(
    stages=(
        Stage(name="pulse", n_samples=60, controls=PULSE),
        Stage(name="ringdown", n_samples=100, controls=Controls(nbar=4.0)),
    ),
    sample_interval=DT,
)
BAND = scipy.signal.butter(4, (85e3, 150e3), "bandpass", fs=1 / DT, output="sos")
LOW = scipy.signal.butter(2, 120e3, fs=1 / DT, output="sos")


def gains_of(sequence):
    """Return the gain from D to I and Q for each sample."""
    rows = [
        np.tile(np.asarray(quadrature_gains(PARAMS, s.controls, DETECTOR)), (s.n_samples, 1))
        for s in sequence.stages
    ]
    return np.concatenate(rows)


def power_by_scipy(signals):
    """Return the sum over signals of their low-passed square, S11 written out; (..., samples)."""
    seen = scipy.signal.sosfiltfilt(BAND, np.asarray(undo_box_average(jnp.asarray(signals))))
    return scipy.signal.sosfiltfilt(LOW, (seen**2).sum(axis=0))


def measure(record, sequence=SHORT, **options):
    return jaxsde.mean_squared_displacement(
        jnp.asarray(record), PARAMS, sequence, DETECTOR, **options
    )


def test_expectation_is_that_of_every_cause_filtered_by_scipy():
    r, _ = displacement_covariance(PARAMS, SHORT, choose_resolution(PARAMS, SHORT))
    values, vectors = np.linalg.eigh(np.asarray(r))
    causes = (vectors * np.sqrt(np.clip(values, 0, None))).T  # R = sum of outer products
    gains = gains_of(SHORT)
    direction = gains / np.linalg.norm(gains, axis=1, keepdims=True)
    expected = np.sum([power_by_scipy(causes * direction[:, k]) for k in (0, 1)], axis=0)
    got = jaxsde.expected_displacement(PARAMS, SHORT, DETECTOR)
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9 * expected.max())


def test_a_shot_is_filtered_as_scipy_does_it():
    """Two stages of unequal gain: each quadrature is divided by its stage's A, not by its own."""
    rng = np.random.default_rng(0)
    gains = gains_of(SHORT)
    record = rng.normal(size=(4, 160, 2)) * np.abs(gains).max()
    scaled = np.moveaxis(record / np.linalg.norm(gains, axis=1)[:, None], -1, 0)
    got = measure(record)
    expected = power_by_scipy(scaled) - np.asarray(got.noise_bias)
    np.testing.assert_allclose(got.each, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())
    np.testing.assert_allclose(got.mean, expected.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(got.stderr, expected.std(axis=0, ddof=1) / 2, rtol=1e-10)
    np.testing.assert_array_equal(got.time, SHORT.time)


@pytest.mark.parametrize("frequency", [100e3, 110e3, 125e3])
def test_a_tone_in_the_band_has_half_its_amplitude_squared(frequency):
    """D = a cos(omega t) through the box average and the gains of an off-resonant probe."""
    sequence = Sequence(
        stages=(Stage(name="pulse", n_samples=400, controls=PULSE),), sample_interval=DT
    )
    box = np.sinc(frequency * DT)
    d = 7.0 * box * np.cos(TWO_PI * frequency * sequence.time)
    record = np.stack([d, d])[..., None] * gains_of(sequence)
    got = measure(record, sequence)
    # Over whole cycles: the low-pass leaves some ripple at twice the frequency.
    middle = np.asarray(got.mean + got.noise_bias)[150:310]
    assert middle.mean() == pytest.approx(7.0**2 / 2, rel=0.01)
    assert np.abs(middle / middle.mean() - 1).max() < 0.2


def test_shot_noise_alone_averages_to_zero():
    shots = 4000
    noise = np.random.default_rng(1).normal(size=(shots, 160, 2)) * np.sqrt(
        noise_variance(DETECTOR)
    )
    got = measure(noise)
    z = np.asarray(got.mean / got.stderr)
    assert np.abs(z).max() < 4
    # Half of the bias, as printed in S11, is refused.
    half = np.asarray((got.mean + got.noise_bias / 2) / got.stderr)
    assert np.median(half) > 6


def test_twenty_thousand_shots_have_the_expected_mean():
    got = ensembles.paper_displacement()
    z = (np.asarray(got.mean) - ensembles.expected_displacement()) / np.asarray(got.stderr)
    assert np.abs(z).max() < 4
    # And they tell a theory that is off by 10 %.
    off = (np.asarray(got.mean) - 1.1 * ensembles.expected_displacement()) / np.asarray(got.stderr)
    assert np.abs(off).max() > 5


def test_expectation_is_near_the_square_itself():
    """In the quiet middle of the ringdown, filters change the cycle-averaged <D^2> by little."""
    r, squares = displacement_covariance(PARAMS, SEQUENCE, choose_resolution(PARAMS, SEQUENCE))
    assert r.shape == (1280, 1280)
    quiet = slice(500, 1200)
    ratio = ensembles.expected_displacement()[quiet].mean() / np.asarray(squares)[quiet].mean()
    assert 0.9 < ratio < 1.0


def test_a_dark_stage_counts_for_nothing():
    stages = (SHORT.stages[0], Stage(name="dark", n_samples=100, controls=Controls(nbar=0.0)))
    sequence = dataclasses.replace(SHORT, stages=stages)
    record = np.zeros((2, 160, 2))
    record[:, 60:] = np.random.default_rng(2).normal(size=(2, 100, 2))
    got = measure(record, sequence)
    np.testing.assert_allclose(got.mean + got.noise_bias, 0.0, atol=1e-9)
    assert np.isfinite(jaxsde.expected_displacement(PARAMS, sequence, DETECTOR)).all()


def test_one_shot_has_no_error():
    assert np.isnan(measure(np.zeros((1, 160, 2))).stderr).all()


@pytest.mark.parametrize("shape", [(3, 159, 2), (3, 160, 1), (160, 2)])
def test_a_record_of_the_wrong_shape_is_refused(shape):
    # Past the tests' import hook, which a user's session does not have.
    function = jaxsde.mean_squared_displacement.__wrapped__
    with pytest.raises(ValueError, match=r"^record: wanted shape \(shots, 160, 2\)"):
        function(jnp.zeros(shape), PARAMS, SHORT, DETECTOR)


def test_bands_that_do_not_fit_are_refused():
    record = np.zeros((2, 160, 2))
    with pytest.raises(ValueError, match=r"^band: wanted 0 < low < high"):
        measure(record, band=(1e5, 1.1e6))
    with pytest.raises(ValueError, match=r"^cycle_average: "):
        measure(record, cycle_average=2e6)
