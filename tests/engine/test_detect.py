import dataclasses
import math

import jax
import numpy as np
import pytest

import jaxsde
import light
from ensembles import z_of_products
from jaxsde.engine import detect
from jaxsde.engine.detect import (
    Detector,
    check_detector,
    independent_noise,
    noise_variance,
    quadrature_gains,
    readout,
)
from jaxsde.engine.records import readout_of_samples, record_covariance
from jaxsde.engine.resolution import choose_resolution
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls

NARROW = light.NARROW
PULSE = Controls(nbar=15.0, delta_pc=TWO_PI * -1.4e6)


def test_shot_noise_density_is_that_of_one_milliwatt():
    # P hbar omega: 1 mW of 780 nm photons of 2.5467e-19 J.
    assert pytest.approx(2.54672e-22, rel=1e-5) == detect.shot_noise_density(1e-3, 780e-9)
    assert Detector().S_SN == detect.shot_noise_density(1e-3, 780e-9)


def test_gain_is_the_printed_a_of_s10_through_one_of_two_mirrors():
    params, detector = Params.kohler2018(), Detector()
    lorentzian = params.kappa / (params.kappa**2 + PULSE.delta_pc**2)
    printed = math.sqrt(detector.efficiency * detector.S_SN * PULSE.nbar * lorentzian)
    assert float(detect.detection_gain(params, PULSE, detector)) == pytest.approx(
        printed, rel=1e-14
    )
    both = dataclasses.replace(detector, collection=1.0)
    full = detect.detection_gain(params, PULSE, both)
    assert float(full) == pytest.approx(math.sqrt(2) * printed, rel=1e-14)


def test_imprecision_times_backaction_is_twice_the_heisenberg_bound():
    """Twice, for heterodyne detection adds the vacuum of its image band; at full collection.

    The bound is S_imp S_F >= 1, as [Z, P] = 2i.  Two-sided: S_imp = (S_SN/2)/(A g)^2, and the force
    on P is 2 r g c_AM with S_cAM = 1/kappa well inside the linewidth: S_F = 8 nbar g^2/kappa.
    """
    params, controls = Params.kohler2018(), Controls(nbar=3.0)
    detector = Detector(efficiency=1.0, collection=1.0)
    gain = float(detect.detection_gain(params, controls, detector)) * params.g_m
    imprecision = (detector.S_SN / 2) / gain**2
    backaction = 8 * controls.nbar * params.g_m**2 / params.kappa
    assert imprecision * backaction == pytest.approx(2.0, rel=1e-12)


def test_quadratures_turn_with_the_detuning():
    params, detector = Params.kohler2018(), Detector()
    i, q = np.asarray(quadrature_gains(params, PULSE, detector))
    total = float(detect.detection_gain(params, PULSE, detector))
    assert math.hypot(i, q) == pytest.approx(total, rel=1e-14)
    assert q / i == pytest.approx(params.kappa / PULSE.delta_pc, rel=1e-14)  # S9
    assert i < 0 < q
    on_resonance = np.asarray(quadrature_gains(params, Controls(nbar=4.0), detector))
    assert on_resonance[0] == 0 < on_resonance[1]
    one = quadrature_gains(params, PULSE, dataclasses.replace(detector, quadratures=("Q",)))
    np.testing.assert_array_equal(one, [q])


def test_noise_of_a_sample_is_half_the_density_over_its_interval():
    detector = Detector(sample_interval=1e-7, S_SN=6e-20)
    assert noise_variance(detector) == pytest.approx(3e-13)


def test_ideal_detector_is_the_displacement_itself():
    ideal = Detector.ideal(1e-6)
    check_detector(ideal)
    assert (ideal.unit, Detector().unit) == ("rad/s", "W")
    assert noise_variance(ideal) == 0
    np.testing.assert_array_equal(quadrature_gains(Params.kohler2018(), PULSE, ideal), [1.0])


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(quadratures=("Q", "I")), r"^detector\.quadratures: wanted \('I', 'Q'\)"),
        (
            dict(sample_interval=0.0),
            r"^detector\.sample_interval: wanted a positive time in s, got 0",
        ),
        (dict(sample_interval=math.nan), r"^detector\.sample_interval: wanted a positive time"),
        (
            dict(efficiency=0.0),
            r"^detector\.efficiency: wanted a number above 0 and up to 1, got 0",
        ),
        (dict(efficiency=1.1), r"^detector\.efficiency: .*got 1\.1"),
        (dict(collection=math.nan), r"^detector\.collection: .*got nan"),
        (dict(S_SN=0.0), r"^detector\.S_SN: wanted a positive density in W\^2/Hz, got 0"),
        (dict(S_SN=math.inf), r"^detector\.S_SN: wanted a positive density"),
        (dict(quadratures=("D",)), r"^detector\.S_SN: wanted 0 for the ideal record D, got 2"),
    ],
)
def test_check_detector_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        check_detector(Detector(**changes))


def test_check_detector_lets_tracers_pass():
    def traced(efficiency):
        detector = Detector(efficiency=efficiency)
        check_detector(detector)
        return quadrature_gains(Params.kohler2018(), PULSE, detector)[1] ** 2

    value, slope = jax.value_and_grad(traced)(0.09)
    assert float(slope) * 0.09 == pytest.approx(float(value), rel=1e-12)  # A^2 grows with it


# --- receivers ------------------------------------------------------------------------------------

RECEIVERS = light.receivers(efficiency=0.8, collection=0.9)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(model="heterodyne"),
            r"^detector\.model: wanted one of adiabatic, input_output, got 'heterodyne'$",
        ),
        (
            dict(quadratures=("D",), S_SN=0.0, model="input_output"),
            r"^detector\.model: wanted 'adiabatic' for the ideal record D, which is no light, got "
            r"'input_output'; record 'I' and 'Q', or 'homodyne'$",
        ),
        (dict(quadratures=("homodyne", "I")), r"^detector\.quadratures: .*\('homodyne',\)"),
        (dict(quadratures=("X",)), r"^detector\.quadratures: wanted .* got \('X',\)$"),
        (dict(quadratures=()), r"^detector\.quadratures: wanted .* got \(\)$"),
        (dict(angle=math.nan), r"^detector\.angle: wanted a finite angle in rad, got nan$"),
        (dict(angle=math.inf), r"^detector\.angle: wanted a finite angle in rad, got inf$"),
        (dict(efficiency=-0.1), r"^detector\.efficiency: .* above 0 and up to 1, got -0\.1$"),
        (dict(efficiency=math.nan), r"^detector\.efficiency: .*got nan$"),
        (dict(collection=0.0), r"^detector\.collection: .*got 0\.0$"),
        (dict(collection=1.01), r"^detector\.collection: .*got 1\.01$"),
    ],
)
@pytest.mark.parametrize("other", [dict(), dict(model="input_output")])
def test_check_detector_refuses_receivers_that_cannot_be(changes, message, other):
    with pytest.raises(ValueError, match=message):
        check_detector(Detector(**other | changes))


def test_homodyne_refuses_what_every_detector_refuses():
    check_detector(Detector.homodyne())
    check_detector(Detector.homodyne(model="adiabatic", efficiency=1.0, collection=1.0))
    with pytest.raises(ValueError, match=r"^detector\.angle: "):
        check_detector(Detector.homodyne(math.nan))
    with pytest.raises(ValueError, match=r"^detector\.efficiency: .*got 1\.5$"):
        check_detector(Detector.homodyne(efficiency=1.5))
    with pytest.raises(ValueError, match=r"^detector\.angle: "):
        jaxsde.simulate(jax.random.key(0), NARROW, light.RAMPS, Detector.homodyne(math.inf), 1)


def test_homodyne_is_of_the_output_field_at_the_phase_quadrature_unless_told():
    detector = Detector.homodyne()
    assert (detector.quadratures, detector.model) == (("homodyne",), "input_output")
    assert (detector.angle, detector.unit) == (math.pi / 2, "W")
    assert Detector.homodyne(0.3, model="adiabatic").model == "adiabatic"
    assert noise_variance(detector) == pytest.approx(detector.S_SN / detector.sample_interval)


@pytest.mark.parametrize("name", RECEIVERS)
def test_vacuum_alone_makes_the_shot_noise(name):
    """Of the signals 1/4 each, and of what is independent: S_SN/2 in I and Q, S_SN in homodyne."""
    detector = RECEIVERS[name]
    dt = detector.sample_interval
    g = np.asarray(readout(NARROW, light.COOLING, detector))
    expected, white = light.gains(NARROW, light.COOLING, detector)
    np.testing.assert_allclose(g, expected, rtol=1e-13, atol=1e-13 * np.abs(expected).max())
    assert float(independent_noise(detector)) == pytest.approx(white / dt, rel=1e-13)
    vacuum = g @ g.T / 4 if detector.model == "input_output" else 0 * g @ g.T
    total = vacuum / dt + float(independent_noise(detector)) * np.eye(len(g))
    share = 1.0 if detector.quadratures == ("homodyne",) else 0.5
    np.testing.assert_allclose(total, share * detector.S_SN / dt * np.eye(len(g)), rtol=1e-13)
    assert noise_variance(detector) == pytest.approx(share * detector.S_SN / dt, rel=1e-13)


@pytest.mark.parametrize("delta", [-2e6, 0.0, 1.4e6])
def test_both_models_have_one_gain_for_a_slow_displacement(delta):
    """c_PM = r D kappa/(kappa^2 + Delta^2), c_AM = r D Delta/(kappa^2 + Delta^2), r = sqrt(2 nbar).

    Of S8 at rest; sqrt(kappa) times these is the output field.
    """
    params, controls = Params.kohler2018(), Controls(nbar=3.0, delta_pc=TWO_PI * delta)
    r = math.sqrt(2 * 3.0) / (params.kappa**2 + controls.delta_pc**2)
    field = np.sqrt(params.kappa) * r * np.array([controls.delta_pc, params.kappa])
    for detector in (RECEIVERS["heterodyne"], RECEIVERS["homodyne"], RECEIVERS["amplitude"]):
        adiabatic = dataclasses.replace(detector, model="adiabatic")
        slow = np.asarray(readout(params, controls, adiabatic))[:, 0]
        got = np.asarray(readout(params, controls, detector)) @ field
        np.testing.assert_allclose(got, slow, rtol=1e-12, atol=1e-12 * np.abs(field).max() * 1e-10)


@pytest.mark.parametrize("name", ["adiabatic heterodyne", "adiabatic homodyne", "homodyne"])
def test_gains_of_a_ramp_are_those_of_the_middle_of_samples(name):
    detector = RECEIVERS[name]
    for sequence in (light.RAMPS, light.SWITCHED):
        got = readout_of_samples(NARROW, sequence, detector, choose_resolution(NARROW, sequence))
        expected = [
            light.gains(NARROW, part.controls, detector, (k + 0.5) / part.n_samples)[0]
            for part in sequence.stages
            for k in range(part.n_samples)
        ]
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
    assert np.ptp(np.abs(got)) > 0 or name == "homodyne"


# --- shots while things move ----------------------------------------------------------------------

MOVING = {"ramps of nbar and delta_pc": light.RAMPS, "switched": light.SWITCHED}
N_SHOTS = 5000


def whitened(record, theory):
    """Return the record (shots, n) in units in which the theory's covariance is the identity."""
    n = theory.shape[0] * theory.shape[1]
    root = np.linalg.cholesky(np.asarray(theory).reshape(n, n))
    return np.linalg.solve(root, np.asarray(record, float).reshape(len(record), n).T).T


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["adiabatic heterodyne", "adiabatic homodyne", "heterodyne", "homodyne"]
)
@pytest.mark.parametrize("sequence", MOVING)
def test_shots_have_the_covariance_of_theory_while_things_move(sequence, name):
    """5,000 shots of 24 or 32 samples: 300 to 2,080 independent products, z < 5.

    One in 1,000 such tests has a larger one; their rms is 1 within 4 of its standard errors.
    """
    params = dataclasses.replace(NARROW, sigma_m=TWO_PI * 2e3, sigma_s=TWO_PI * 1e3)
    detector, sequence = RECEIVERS[name], MOVING[sequence]
    shots = jaxsde.simulate(jax.random.key(5), params, sequence, detector, N_SHOTS)
    theory = record_covariance(params, sequence, detector, shots.resolution)
    white = whitened(shots.record, theory)
    z = z_of_products(white, np.eye(white.shape[1]))
    assert np.abs(z).max() < 5
    assert abs((z**2).mean() - 1) < 4 * np.sqrt(2 / len(z))
    assert np.abs(white.mean(axis=0)).max() < 4.5 / np.sqrt(N_SHOTS)
    if name == "heterodyne":  # nor is it the theory of independent shot noise
        other = dataclasses.replace(detector, model="adiabatic")
        wrong = record_covariance(params, sequence, other, shots.resolution)
        white = whitened(shots.record, wrong)
        assert np.abs(z_of_products(white, np.eye(white.shape[1]))).max() > 7
