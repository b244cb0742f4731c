import dataclasses

import numpy as np
import pytest

import pulse_and_ringdown as tiny
from jaxsde.inference.point import make_likelihood
from jaxsde.inference.problem import make_problem
from jaxsde.inference.starts import choose_start, coarse_loss, is_frequency
from pulse_and_ringdown import DETECTOR, PARAMS, shots


def objective(free, **wrong):
    params = dataclasses.replace(PARAMS, **wrong)
    # The trap at rest is where the start says; the pulse is where it was.
    sequence = tiny.sequence(params)
    made = make_problem(params, shots(), free, sequence=sequence, detector=DETECTOR)
    return make_likelihood(made)


def test_without_frequencies_or_share_the_start_stays():
    np.testing.assert_array_equal(choose_start(objective(("g_m", "g_s")), 0.3), 0)
    np.testing.assert_array_equal(choose_start(objective(("g_m", "omega_s")), 0.0), 0)


def test_frequencies_far_off_are_found():
    """20 % and 15 % off: farther than the widths of the maxima, of some 6 kHz."""
    made = objective(
        ("g_m", "omega_m", "omega_s"),
        omega_m=1.2 * PARAMS.omega_m, omega_s=0.85 * PARAMS.omega_s,
    )  # fmt: skip
    u = choose_start(made, 0.3)
    assert u[0] == 0
    found = np.exp(u[1:]) * np.array([1.2, 0.85])
    np.testing.assert_allclose(found, 1.0, atol=0.05)
    assert coarse_loss(made, u) < coarse_loss(made, np.zeros(3)) - 10


def test_a_calibration_finds_frequencies_that_are_far_off():
    params = dataclasses.replace(
        PARAMS, omega_m=1.2 * PARAMS.omega_m, omega_s=0.85 * PARAMS.omega_s
    )
    fit = tiny.calibrate(
        params, shots(), ("g_m", "omega_m", "omega_s"), sequence=tiny.sequence(params)
    )
    assert fit.converged
    z = (fit.values - [PARAMS.g_m, PARAMS.omega_m, PARAMS.omega_s]) / fit.stderr
    assert np.abs(z).max() < 4, z
    assert (fit.stderr[1:] < 0.02 * fit.values[1:]).all()


def test_frequencies_are_known_by_their_fields():
    assert is_frequency("omega_m") and is_frequency("pulse.omega_m")
    assert not is_frequency("g_m") and not is_frequency("ringdown.delta_pc")


def test_a_share_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"^scan: wanted a share of the frequency from 0 to below"):
        choose_start(objective(("omega_s",)), -0.1)
