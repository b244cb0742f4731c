import dataclasses
import math

import jax
import numpy as np
import pytest

from jaxsde.engine import detect
from jaxsde.engine.detect import Detector, check_detector, noise_variance, quadrature_gains
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls

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
